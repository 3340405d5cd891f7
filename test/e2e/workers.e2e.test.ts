/**
 * The life of worker VMs, from the command line of an administrator: deployed, tested, used, stopped when idle, started on demand, drained,
 * changed, replaced, removed; orphans; a cluster without room. What runs in them is their program as a process.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { promisify } from 'node:util';
import { eventually } from '../harness/child';
import { engineClean } from '../harness/engine-state';
import { Site, endOf } from '../harness/site';
import type { Session, Task } from '../harness/site';
import { emptyWorkerImage } from '../harness/worker-image';

const root = path.resolve(__dirname, '..', '..', '..');
const cow = (name: string, sizeMib: number) => ({ name, sizeMib, format: 'cow' });
const plan = {
  clusters: [
    { name: 'east', level: '4.6', hosts: ['east-1'] },
    { name: 'west', level: '4.6', hosts: ['west-1'] },
    { name: 'full', level: '4.6', hosts: ['full-1'], hostMemoryGib: 1 },
  ],
  networks: { clusters: { east: {}, west: {} } },
  vms: [
    { name: 'apple', cluster: 'east', disks: [cow('apple-a', 64)] },
    { name: 'pear', cluster: 'west', disks: [cow('pear-a', 64)] },
  ],
};

interface Worker {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly clusterName: string | null;
  readonly vmId: string | null;
  readonly imageVersion: string | null;
  readonly outdated: boolean;
  readonly taskSlots: number;
  readonly addresses: readonly string[];
  readonly certificateDaysLeft: number | null;
  readonly problem: unknown;
  readonly selfTest: {
    readonly verdict: string;
    readonly cells: readonly { readonly check: string; readonly targetName: string }[];
  } | null;
}

interface Vm {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly deleteProtected?: boolean;
}

/** A busy machine may be a slow one, which is a warning (docs/operations/workers.md). */
const passed = /^(passed|warning)$/;

describe('worker VMs', () => {
  let site: Site;
  let writes = 0;

  beforeAll(async () => {
    site = await Site.start({ plan, workerVms: 'process' });
    for (const vm of ['apple', 'pear']) {
      await site.lab.startVm(vm);
      await site.dirty(vm, `${vm}-a`, 0, 24, 1);
      await site.installation.cli('job', 'create', vm, '--repository', 'main', '--vm', vm);
    }
    // Which workers run is what most cases are about, and they take as long as the machine needs.
    await site.installation.cli('worker', 'policy', '--idle-minutes', '600');
  }, 600_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 600_000);

  const workers = async () => (await site.installation.json<{ items: Worker[] }>('worker', 'list')).items;
  const worker = (name: string) => site.installation.json<Worker>('worker', 'show', name);
  const policy = (...options: string[]) => site.installation.cli('worker', 'policy', ...options);
  const vms = () => site.lab.entities<Vm>('vms');
  const workerVms = async () => (await vms()).filter(({ name }) => name !== 'apple' && name !== 'pear');
  const westName = async () => (await workers()).find(({ clusterName }) => clusterName === 'west')?.name ?? '';

  /** Does something to workers, and expects it to end well. */
  async function done(...args: string[]): Promise<Session> {
    const session = await site.session('worker', ...args);
    expect([args, endOf(session), session.tasks[0]?.failure ?? null]).toEqual([args, 'success', null]);
    return session;
  }

  /** Runs a job whose point is then what the disk held. */
  async function backUp(job: string): Promise<Task> {
    writes += 1;
    await site.dirty(job, `${job}-a`, 30, 2, 100 + writes);
    const session = await site.run(job);
    const [task] = session.tasks;
    expect(task?.failure ?? null).toBeNull();
    expect(await site.pointDifferences(task as Task)).toEqual([]);
    return task as Task;
  }

  const hops = (task: Task) => task.disks.map(({ workerName, workerHop, path, transport }) => [workerName, workerHop, path, transport]);
  const noteOf = (task: Task, code: string) => task.notes.find((note) => note.code === code)?.message;

  it('are shown first, then deployed, enrolled and tested', async () => {
    const shown = await site.installation.cli('worker', 'deploy', '--cluster', 'east', '--dry-run');
    expect(shown).toMatch(/2 vCPUs, 2.0 GiB/);
    expect(await workerVms()).toEqual([]);
    await done('deploy', '--cluster', 'east', '--name', 'east-a');
    const found = await worker('east-a');
    expect(found).toMatchObject({ state: 'connected', clusterName: 'east', taskSlots: 4, outdated: false, problem: null });
    expect(found.imageVersion).toBe('0.0.1');
    expect(found.addresses).toHaveLength(1);
    expect(found.certificateDaysLeft).toBeLessThan(7);
    expect(found.selfTest?.verdict).toMatch(passed);
    expect(found.selfTest?.cells.filter(({ check }) => check === 'host').map(({ targetName }) => targetName)).toEqual(['east-1']);
    expect(await workerVms()).toMatchObject([{ name: 'east-a', status: 'up', deleteProtected: true }]);
    const tested = await site.installation.tryCli('worker', 'test', 'east-a');
    expect(tested.stdout).toMatch(/^ok +mover .*\n(.*\n)*self-test of .*: (passed|warning)/m);
    expect(tested.code).toBe(/: warning\s*$/.test(tested.stdout) ? 3 : 0);
    const history = await site.installation.cli('session', 'list', '--kind', 'worker');
    expect(history).toMatch(/worker +deploy east-a +(success|warning)/);
  }, 600_000);

  it('get a config drive that cloud-init reads alike, and that it has nothing to say against', async () => {
    const { id: workerId, vmId } = await worker('east-a');
    const drive = path.join(site.lab.access.dataDir, 'hosts', 'vms', vmId ?? '', 'config-drive');
    const script = path.join(root, 'scripts', 'worker-image', 'cloud_init.py');
    const { stdout } = await promisify(execFile)('/usr/bin/python3', [script, drive]);
    const read = JSON.parse(stdout) as { written: Record<string, { content: string }> };
    const [[file, { content }] = ['', { content: '' }]] = Object.entries(read.written);
    expect(read).toMatchObject({ found: true, problem: null, runs: [], schema: null, written: { [file]: { mode: '0o600' } } });
    expect(file).toBe('/etc/tidemark/worker.json');
    // The worker enrolled as the one that cloud-init would have made of it.
    expect(JSON.parse(Buffer.from(content, 'base64').toString())).toMatchObject({ workerId, hostName: 'east-a', taskSlots: 4 });
  }, 600_000);

  it('are never backed up themselves', async () => {
    expect(await site.installation.cli('vm', 'list')).not.toContain('east-a');
  });

  it('back up the VMs of their cluster; a cluster without one gets it when a task needs it', async () => {
    await policy('--deploy-automatically', 'on');
    expect(hops(await backUp('apple'))).toEqual([['east-a', 'same-cluster', 'direct', 'image-transfer']]);
    const task = await backUp('pear');
    expect(hops(task)).toEqual([[await westName(), 'same-cluster', 'direct', 'image-transfer']]);
    expect(await westName()).toMatch(/^tidemark-worker-west-\d\d$/);
    await policy('--deploy-automatically', 'off');
    await engineClean(site.lab);
  }, 600_000);

  it('stand in for each other as far as the rules go, and the session says why', async () => {
    const west = await westName();
    expect(await site.installation.cli('worker', 'drain', west)).toContain('drained');
    const elsewhere = await backUp('pear');
    // The other cluster's worker cannot reach the host, so the data took the slow way.
    expect(hops(elsewhere)).toEqual([['east-a', 'other-cluster', 'proxy', 'image-transfer']]);
    expect(noteOf(elsewhere, 'worker-hop')).toContain('as an administrator wants it');
    await policy('--other-clusters', 'off');
    const beside = await backUp('pear');
    expect(hops(beside)).toMatchObject([[expect.anything(), 'beside-server', 'direct', 'image-transfer']]);
    expect(noteOf(beside, 'worker-hop')).toMatch(/beside the server/);
    expect(await site.installation.cli('worker', 'resume', west)).toContain('connected');
    expect((await backUp('pear')).disks[0]?.workerHop).toBe('same-cluster');
  }, 600_000);

  it('are started when work comes to one that was stopped', async () => {
    await done('stop', 'east-a');
    expect((await worker('east-a')).state).toBe('stopped');
    expect((await vms()).find(({ name }) => name === 'east-a')?.status).toBe('down');
    expect(hops(await backUp('apple'))).toEqual([['east-a', 'same-cluster', 'direct', 'image-transfer']]);
  }, 600_000);

  it('are made anew with other settings, the old VM kept until the new one passed its test', async () => {
    const before = await worker('east-a');
    await done('edit', 'east-a', '--tasks', '2', '--description', 'smaller');
    const edited = await worker('east-a');
    expect(edited).toMatchObject({ id: before.id, state: 'connected', taskSlots: 2 });
    expect(edited.vmId).not.toBe(before.vmId);
    const redeploying = site.session('worker', 'redeploy', 'east-a');
    const seen = new Set<string>();
    for (let over = false; !over;) {
      over = await Promise.race([redeploying.then(() => true), new Promise<false>((resolve) => setTimeout(resolve, 20, false))]);
      const mine = (await workerVms()).filter(({ name }) => name.startsWith('east-a'));
      const kept = mine.some(({ id }) => id === edited.vmId);
      const made = mine.some(({ id, status }) => id !== edited.vmId && status === 'up');
      seen.add([kept && 'old', made && 'new'].filter(Boolean).join('+'));
    }
    expect(endOf(await redeploying)).toBe('success');
    expect([...seen]).toEqual(['old', 'old+new', 'new']);
    expect((await workerVms()).filter(({ name }) => name.startsWith('east-a'))).toHaveLength(1);
  }, 600_000);

  it('say why a cluster has no room, and leave nothing there', async () => {
    const disks = async () => (await site.lab.entities<{ id: string }>('disks')).map(({ id }) => id).sort();
    const before = [await workerVms(), await disks()];
    const deploy = () => site.session('worker', 'deploy', '--cluster', 'full');
    expect((await deploy()).tasks[0]?.failure).toMatchObject({ code: 'WORKER_NO_MEMORY' });
    await site.lab.control('POST', '/hosts/full-1/memory', { bytes: 64 * 1024 ** 3 });
    for (const domain of ['data-1', 'data-2'])
      await site.lab.control('POST', `/storagedomains/${domain}/space`, { freeBytes: 6 * 1024 ** 3 });
    expect((await deploy()).tasks[0]?.failure).toMatchObject({ code: 'WORKER_NO_STORAGE' });
    for (const domain of ['data-1', 'data-2']) await site.lab.control('POST', `/storagedomains/${domain}/space`, {});
    await site.lab.control('POST', '/hosts/full-1/kill');
    const host = async () => (await site.lab.entities<{ name: string; status: string }>('hosts')).find(({ name }) => name === 'full-1');
    await eventually('the engine to see that the host is down', 240_000, async () => (await host())?.status !== 'up');
    await eventually('a host that is not up', 240_000, async () => {
      const failure = (await deploy()).tasks[0]?.failure;
      return failure?.code === 'WORKER_NO_HOST' || undefined;
    });
    expect([await workerVms(), await disks()]).toEqual(before);
  }, 600_000);

  it('of a lost server are listed and removed; those of this one cannot be removed that way', async () => {
    const { lab } = site;
    const clusters = (await lab.api<{ cluster: { id: string; name: string }[] }>('GET', '/clusters')).cluster;
    const made = await lab.api<{ id: string }>('POST', '/vms', {
      name: 'tidemark-worker-lost-01',
      comment: `tidemark-worker worker=${randomUUID()} plugin=${randomUUID()} operation=${randomUUID()}`,
      description: 'created by admin on a server that is gone',
      delete_protected: true,
      cluster: { id: clusters.find(({ name }) => name === 'west')?.id },
      template: { id: '00000000-0000-0000-0000-000000000000' },
    });
    await lab.api('POST', `/vms/${made.id}/tags`, { name: 'tidemark-worker' });
    expect(await site.installation.cli('worker', 'orphans')).toContain('tidemark-worker-lost-01');
    expect((await site.installation.tryCli('worker', 'orphans', 'remove', 'east-a')).code).toBe(4);
    await done('orphans', 'remove', 'tidemark-worker-lost-01');
    expect((await vms()).map(({ name }) => name)).not.toContain('tidemark-worker-lost-01');
    expect(await site.installation.cli('worker', 'orphans')).toContain('every worker VM belongs to a worker here');
  }, 600_000);

  it('are shut down when idle, and replaced by themselves when another image is installed', async () => {
    const west = await westName();
    await policy('--idle-minutes', '1');
    await eventually('the idle worker to be shut down', 240_000, async () => (await worker(west)).state === 'stopped' || undefined, 500);
    emptyWorkerImage(site.workerImages, '0.0.2');
    expect(await site.installation.cli('worker', 'image')).toContain('0.0.2');
    const replaced = await eventually(
      'the replacement',
      300_000,
      async () => {
        const found = await worker(west);
        return found.imageVersion === '0.0.2' && found.state === 'connected' ? found : undefined;
      },
      500,
    );
    expect(replaced).toMatchObject({ outdated: false, problem: null, selfTest: { verdict: expect.stringMatching(passed) } });
    expect(hops(await backUp('pear'))).toEqual([[west, 'same-cluster', 'direct', 'image-transfer']]);
  }, 600_000);

  it('are removed without a trace', async () => {
    for (const { name, vmId } of await workers()) if (vmId !== null) await done('remove', name);
    expect(await workerVms()).toEqual([]);
    const disks = await site.lab.entities<{ name: string }>('disks');
    expect(disks.map(({ name }) => name).filter((name) => !/^(apple|pear)-a$|^tidemark-worker-image-/.test(name))).toEqual([]);
    await engineClean(site.lab);
  }, 600_000);
});
