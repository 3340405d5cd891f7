/**
 * A worker VM as an administrator gets it: one command puts the image into the engine, the lab boots it as a guest from the disk that the
 * plug-in uploaded, and from then on all data goes through that VM. Needs root (the guest stands on a bridge) and qemu.
 */
import fs from 'node:fs';
import path from 'node:path';
import { imageDifference } from '../harness/compare';
import { engineClean } from '../harness/engine-state';
import { Site, endOf } from '../harness/site';
import type { Session, Task } from '../harness/site';

const plan = {
  clusters: [{ name: 'East', level: '4.6', hosts: ['host-1'] }],
  storageDomains: ['data-1', 'data-2'],
  networks: { clusters: { East: {} } },
  vms: [{ name: 'web', cluster: 'East', nics: 1, disks: [{ name: 'web-a', sizeMib: 64, format: 'cow' }] }],
};

interface Worker {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly vmId: string | null;
}

interface DiskRow {
  readonly id: string;
  readonly name: string;
}

describe('a worker VM with the real image', () => {
  let site: Site;
  let full: Session;

  beforeAll(async () => {
    site = await Site.start({ plan, workerVms: 'guest' });
    await site.installation.cli('worker', 'policy', '--beside-server', 'off', '--deploy-automatically', 'off');
    await site.lab.startVm('web');
    await site.dirty('web', 'web-a', 4, 16, 1);
  }, 900_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 900_000);

  const workers = async (): Promise<readonly Worker[]> => {
    const { items } = await site.installation.json<{ items: Worker[] }>('worker', 'list');
    return items.filter(({ vmId }) => vmId);
  };
  const onlyTask = (session: Session): Task => {
    expect(session.tasks.map(({ failure }) => failure)).toEqual([null]);
    return session.tasks[0]!;
  };
  const expectThrough = (task: Task, transport: string): void => {
    const path = transport === 'attachment' ? 'attached' : 'direct';
    expect(task.disks.map((disk) => [disk.transport, disk.path, disk.workerHop])).toEqual(
      task.disks.map(() => [transport, path, 'same-cluster']),
    );
  };
  /** `present`: what the original holds now, where the engine made no backup that could be captured. */
  const restored = async (task: Task, from: Task, present?: string): Promise<void> => {
    const attachments = await site.lab.entities<{ vmId: string; diskId: string }>('attachments');
    const [mine] = attachments.filter(({ vmId }) => vmId === task.createdId);
    const file = path.join(site.folder, 'restored.raw');
    await site.lab.control('POST', `/disks/${mine?.diskId ?? ''}/dump`, { file });
    expect(await imageDifference(present ?? site.captureOf(from.sessionId, from.disks[0]!.diskId), file)).toBeUndefined();
    fs.rmSync(file);
  };

  it('is deployed by one command, boots, enrols and passes its self-test', async () => {
    const session = await site.session('worker', 'deploy', '--cluster', 'East', '--name', 'w1');
    expect([endOf(session), session.tasks.map(({ failure }) => failure)]).toEqual(['success', [null]]);
    // The lab's guest has less memory than the rule wants, which makes the session a warning and nothing worse.
    expect([session.state, session.tasks[0]?.notes.map(({ code }) => code)]).toEqual(['warning', expect.arrayContaining(['MEMORY_LOW'])]);
    const [worker] = await workers();
    expect(worker).toMatchObject({ name: 'w1', state: 'connected' });
    const tested = await site.installation.tryCli('worker', 'test', 'w1');
    expect([tested.code, tested.stdout]).not.toEqual([1, expect.anything()]);
    expect(tested.stdout).toMatch(/host +host-1/);
    const { text } = await site.lab.control<{ text: string }>('GET', `/vms/${worker?.vmId ?? ''}/console`);
    expect(text).toMatch(/root file system is read-only/);
  }, 900_000);

  it('backs up in full and what changed, and restores', async () => {
    await site.installation.cli('job', 'create', 'web', '--repository', 'main', '--vm', 'web');
    full = await site.run('web');
    expectThrough(onlyTask(full), 'image-transfer');
    expect(await site.pointDifferences(full.tasks[0]!)).toEqual([]);
    await site.dirty('web', 'web-a', 40, 2, 2);
    const changed = await site.run('web');
    expectThrough(onlyTask(changed), 'image-transfer');
    expect(changed.tasks[0]?.disks[0]?.mode).toBe('incremental');
    expect(await site.pointDifferences(changed.tasks[0]!)).toEqual([]);
    const again = await site.session('restore', 'vm', changed.tasks[0]?.pointId ?? '', '--name', 'web-again', '--mac', 'new');
    await restored(onlyTask(again), changed.tasks[0]!);
    await engineClean(site.lab);
  }, 900_000);

  it('reads and writes disks that are attached to it', async () => {
    await site.installation.cli('job', 'create', 'plugged', '--repository', 'main', '--vm', 'web', '--transport', 'attachment');
    const session = await site.run('plugged', '--full');
    expectThrough(onlyTask(session), 'attachment');
    // The guest cannot see which of its 64 MiB were never written; the image service told.
    const bytesRead = (of: Session) => onlyTask(of).disks[0]!.counters.readBytes / 1024 ** 2;
    expect(bytesRead(session)).toBeGreaterThanOrEqual(18);
    expect(bytesRead(session)).toBeLessThan(30);
    expect(session.tasks[0]?.notes.map(({ code }) => code)).not.toContain('attachment-read-whole');
    // Nothing writes to it since: what it holds now is what the snapshot held.
    const present = path.join(site.folder, 'present.raw');
    const read = path.join(site.folder, 'read.raw');
    await site.lab.control('POST', '/disks/web-a/dump', { file: present });
    const point = session.tasks[0]?.pointId ?? '';
    const disk = session.tasks[0]?.disks[0]?.diskId ?? '';
    const differs = async (pointId: string) => {
      fs.rmSync(read, { force: true });
      await site.installation.cli('point', 'read', '--repository', site.repository, '--point', pointId, '--disk', disk, '--out', read);
      return await imageDifference(present, read);
    };
    expect(await differs(point)).toBeUndefined();
    // Compared by digest: what lies in the layers below the new snapshot is read too, and hardly anything is sent.
    await site.dirty('web', 'web-a', 50, 1, 5);
    const second = await site.run('plugged');
    expectThrough(onlyTask(second), 'attachment');
    expect([second.tasks[0]?.disks[0]?.mode, bytesRead(second) > bytesRead(session), bytesRead(second) < 31]).toEqual([
      'digest-compare',
      true,
      true,
    ]);
    expect(second.tasks[0]!.disks[0]!.counters.transferredBytes).toBeLessThan(4 * 1024 ** 2);
    const earlier = path.join(site.folder, 'earlier.raw');
    fs.renameSync(present, earlier);
    await site.lab.control('POST', '/disks/web-a/dump', { file: present });
    expect(await differs(second.tasks[0]?.pointId ?? '')).toBeUndefined();
    fs.renameSync(earlier, present);
    const again = await site.session('restore', 'vm', point, '--name', 'web-plugged', '--mac', 'new', '--transport', 'attachment');
    await restored(onlyTask(again), session.tasks[0]!, present);
    await engineClean(site.lab);
  }, 900_000);

  it('goes over to attachment when no image service can be reached, and back, without reading everything again', async () => {
    await site.dirty('web', 'web-a', 20, 2, 3);
    const blocks = [
      { port: 54322, at: 'hosts', how: 'reject' },
      { port: 54323, at: 'server', how: 'reject' },
    ];
    await site.lab.control('POST', '/clusters/East/network/blocks', { blocks });
    const instead = await site.run('web');
    expectThrough(onlyTask(instead), 'attachment');
    expect([instead.state, instead.tasks[0]?.disks[0]?.mode]).toEqual(['warning', 'digest-compare']);
    expect(await site.pointDifferences(instead.tasks[0]!)).toEqual([]);
    await site.lab.control('POST', '/clusters/East/network/blocks', { blocks: [] });
    await site.dirty('web', 'web-a', 60, 2, 4);
    const back = await site.run('web');
    expectThrough(onlyTask(back), 'image-transfer');
    expect(back.tasks[0]?.disks[0]?.mode).toBe('incremental');
    expect(await site.pointDifferences(back.tasks[0]!)).toEqual([]);
    await engineClean(site.lab);
  }, 900_000);

  it('is removed, and leaves the engine as it was', async () => {
    const vmId = (await workers())[0]?.vmId;
    const removed = await site.session('worker', 'remove', 'w1');
    expect(removed.state).toBe('success');
    expect((await site.lab.entities<{ id: string }>('vms')).map(({ id }) => id)).not.toContain(vmId);
    const disks = await site.lab.entities<DiskRow>('disks');
    const attached = new Set((await site.lab.entities<{ diskId: string }>('attachments')).map(({ diskId }) => diskId));
    const floating = disks.filter(({ id }) => !attached.has(id)).map(({ name }) => name);
    expect(floating).toEqual([]);
    expect(await site.installation.cli('worker', 'orphans')).toContain('every worker VM belongs');
    await engineClean(site.lab);
  }, 900_000);
});
