/** The whole road at every way the engine takes a backup: live, hybrid, cold; full, incremental, mixed, lost checkpoint; three restores. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { imageDifference } from '../harness/compare';
import { eventually } from '../harness/child';
import { engineClean } from '../harness/engine-state';
import { inTheMiddle } from '../harness/middle';
import { Site } from '../harness/site';
import type { Session, Task } from '../harness/site';

const cow = (name: string, sizeMib: number) => ({ name, sizeMib, format: 'cow' });
const plan = {
  vms: [
    {
      name: 'live',
      cluster: 'Level46',
      nics: 1,
      tags: ['gold'],
      disks: [cow('live-a', 192), { name: 'live-raw', sizeMib: 64, format: 'raw' }, cow('live-empty', 1024)],
    },
    { name: 'old', cluster: 'Level45', disks: [cow('old-a', 96)] },
    { name: 'hybrid', cluster: 'Default', disks: [cow('hybrid-a', 96)] },
    { name: 'cold', cluster: 'Level46', disks: [cow('cold-a', 64)] },
  ],
};
const running = ['live', 'old', 'hybrid'];
const firstDisk = (vm: string) => `${vm}-a`;
const mib = 1024 * 1024;

describe('backup and restore', () => {
  let site: Site;
  let latest: Session;

  beforeAll(async () => {
    site = await Site.start({ plan });
    for (const vm of running) {
      await site.lab.startVm(vm);
      await site.dirty(vm, firstDisk(vm), 8, 24, 1);
    }
    await site.dirty('live', 'live-raw', 0, 16, 2);
    await site.installation.cli('job', 'create', 'all', '--repository', 'main', '--vm', '*');
  }, 900_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 900_000);

  const task = (session: Session, vm: string): Task => {
    const found = session.tasks.find(({ vmName }) => vmName === vm);
    if (!found) throw new Error(`no task of ${vm}`);
    return found;
  };
  const disk = (session: Session, vm: string, name: string) => {
    const found = task(session, vm).disks.find((d) => d.name === name);
    if (!found) throw new Error(`no disk ${name}`);
    return found;
  };
  const expectSame = async (session: Session) => {
    for (const each of session.tasks) expect(await site.pointDifferences(each)).toEqual([]);
    await engineClean(site.lab);
  };

  it('reads allocated data once, in full', async () => {
    latest = await site.run('all');
    expect(latest.tasks.map((t) => [t.vmName, t.failure?.message ?? t.state]).sort()).toEqual(
      [
        ['cold', 'success'],
        ['hybrid', 'success'],
        ['live', expect.stringMatching(/success|warning/)],
        ['old', 'success'],
      ].sort(),
    );
    expect(disk(latest, 'old', 'old-a')).toMatchObject({ mode: 'full', path: 'direct' });
    expect(disk(latest, 'old', 'old-a').counters.readBytes).toBeLessThan(40 * mib);
    expect(disk(latest, 'live', 'live-empty').counters.readBytes).toBeLessThan(mib + 1);
    await expectSame(latest);
  }, 900_000);

  it('reads only what changed, then', async () => {
    for (const [index, vm] of running.entries()) await site.dirty(vm, firstDisk(vm), 40, 2, 10 + index);
    await site.dirty('live', 'live-raw', 30, 1, 20);
    latest = await site.run('all');
    for (const vm of [...running, 'cold']) {
      expect([vm, disk(latest, vm, firstDisk(vm)).mode, disk(latest, vm, firstDisk(vm)).reason]).toEqual([vm, 'incremental', '']);
    }
    for (const vm of running) expect(disk(latest, vm, firstDisk(vm)).counters.readBytes).toBeLessThan(6 * mib);
    expect(disk(latest, 'live', 'live-raw')).toMatchObject({ mode: 'digest-compare', reason: 'cbt-raw' });
    expect(disk(latest, 'live', 'live-raw').counters.storedBytes).toBeLessThan(3 * mib);
    await expectSame(latest);
  }, 900_000);

  it('reads a new disk in full beside changes of the others', async () => {
    const [vm] = (await site.lab.api<{ vm: { id: string }[] }>('GET', '/vms?search=name%3Dlive')).vm;
    const [domain] = (await site.lab.api<{ storage_domain: { id: string }[] }>('GET', '/storagedomains?search=name%3Ddata-1'))
      .storage_domain;
    await site.lab.api('POST', `/vms/${vm?.id}/diskattachments`, {
      active: true,
      bootable: false,
      interface: 'virtio_scsi',
      disk: {
        name: 'live-new',
        format: 'cow',
        sparse: true,
        provisioned_size: 64 * mib,
        storage_domains: { storage_domain: [{ id: domain?.id }] },
      },
    });
    await eventually('the new disk', 240_000, async () => {
      await site.dirty('live', 'live-new', 4, 8, 30);
      return true;
    });
    latest = await site.run('all', '--vm', 'live');
    expect(disk(latest, 'live', 'live-new')).toMatchObject({ mode: 'full', reason: 'cbt-new-disk' });
    expect(disk(latest, 'live', 'live-a').mode).toBe('incremental');
    await expectSame(latest);
  }, 900_000);

  it('falls back to a full read in the same run when the change tracking is lost', async () => {
    const bitmaps = await site.lab.control<{ name: string }[]>('GET', '/disks/hybrid-a/bitmaps');
    for (const { name } of bitmaps) await site.lab.control('POST', '/disks/hybrid-a/bitmaps/damage', { checkpoint: name, how: 'remove' });
    const session = await site.run('all', '--vm', 'hybrid');
    expect(session.state).toBe('warning');
    expect(disk(session, 'hybrid', 'hybrid-a').mode).toBe('full');
    expect(disk(session, 'hybrid', 'hybrid-a').reason).toMatch(/^cbt-/);
    await expectSame(session);
    const next = await site.run('all', '--vm', 'hybrid');
    expect(disk(next, 'hybrid', 'hybrid-a').mode).toBe('incremental');
  }, 900_000);

  it('restores a VM beside the original', async () => {
    const from = task(latest, 'live');
    const session = await site.session(
      'restore',
      'vm',
      from.pointId ?? '',
      '--name',
      'live-copy',
      '--storage-domain',
      'data-2',
      '--mac',
      'keep-if-free',
    );
    expect(session.tasks[0]?.failure).toBeNull();
    const disks = await site.lab.entities<{ id: string; name: string; sparse: boolean; format: string }>('disks');
    const attachments = await site.lab.entities<{ vmId: string; diskId: string; bootable: boolean }>('attachments');
    const mine = attachments.filter(({ vmId }) => vmId === session.tasks[0]?.createdId);
    expect(mine.filter(({ bootable }) => bootable)).toHaveLength(1);
    for (const stored of from.disks) {
      const copy = disks.find(({ id, name }) => name === stored.name && mine.some(({ diskId }) => diskId === id));
      const file = path.join(site.folder, 'restored.raw');
      await site.lab.control('POST', `/disks/${copy?.id}/dump`, { file });
      expect([stored.name, await imageDifference(site.captureOf(from.sessionId, stored.diskId), file)]).toEqual([stored.name, undefined]);
      fs.rmSync(file);
    }
    const nics = await site.lab.entities<{ vmId: string; macAddress: string }>('nics');
    const macs = nics.map(({ macAddress }) => macAddress);
    expect(new Set(macs).size).toBe(macs.length);
    expect(nics.filter(({ vmId }) => vmId === session.tasks[0]?.createdId)).toHaveLength(1);
    await engineClean(site.lab);
  }, 900_000);

  it('restores one disk as a new disk, and to raw and qcow2 files that stay sparse', async () => {
    const from = task(latest, 'live');
    const made = await site.session(
      'restore',
      'disk',
      from.pointId ?? '',
      'live-a',
      '--storage-domain',
      'data-1',
      '--name',
      'live-a-again',
    );
    expect(made.tasks[0]?.failure).toBeNull();
    const capture = site.captureOf(from.sessionId, disk(latest, 'live', 'live-a').diskId);
    const dumped = path.join(site.folder, 'disk.raw');
    await site.lab.control('POST', '/disks/live-a-again/dump', { file: dumped });
    expect(await imageDifference(capture, dumped)).toBeUndefined();
    for (const format of ['raw', 'qcow2']) {
      const file = path.join(site.folder, `file.${format}`);
      const session = await site.session('restore', 'disk', from.pointId ?? '', 'live-a', '--to-file', file, '--format', format);
      expect(session.tasks[0]?.failure).toBeNull();
      execFileSync('qemu-img', ['compare', '-f', format, '-F', 'raw', file, capture]);
      expect(fs.statSync(file).blocks * 512).toBeLessThan(100 * mib);
    }
    const again = await site.session('restore', 'disk', from.pointId ?? '', 'live-a', '--to-file', path.join(site.folder, 'file.raw'));
    expect(again.tasks[0]?.failure?.code ?? again.state).toBe('TARGET_EXISTS');
  }, 900_000);

  it('cancels within seconds and cleans up', async () => {
    const hosts = await site.lab.entities<{ name: string; hostId?: string }>('vms');
    const host = hosts.find(({ name }) => name === 'live')?.hostId ?? '';
    const middle = {
      hostId: host,
      start: async () => (await site.session('job', 'run', 'all', '--vm', 'live', '--full', '--no-watch')).id,
      show: (sessionId: string) => site.session('session', 'show', sessionId),
      moreThanBytes: 0,
    };
    const id = await inTheMiddle(site.lab, middle, async ({ id: running }) => {
      await site.installation.cli('session', 'stop', running);
      // It does not wait for what is silent.
      await new Promise((resolve) => setTimeout(resolve, 3000));
    });
    const ended = await eventually('the end', 240_000, async () => {
      const session = await site.session('session', 'show', id);
      return session.endedAt ? session : undefined;
    });
    expect(ended.state).toBe('cancelled');
    await engineClean(site.lab);
    expect((await site.run('all', '--vm', 'live')).tasks[0]?.failure).toBeNull();
  }, 900_000);

  it('verifies, and lists what a repository holds without any server', async () => {
    const verified = await site.session('repository', 'verify', 'main');
    expect(verified.state).toBe('success');
    const listed = await site.installation.cli('point', 'list', '--offline', '--repository', site.repository);
    expect(listed).toContain(task(latest, 'live').pointId);
  }, 900_000);
});
