/** What happens to worker VMs, over an engine in memory: deployment, starts, stops, losses, replacements, removals. */
import { randomUUID } from 'node:crypto';
import { EngineErrors } from '../engine/engine-errors';
import { eventually } from '../testing/eventually';
import { WorkerWorld, clusterId, platformId, startWorkerBench } from '../testing/worker-bench';
import type { WorkerBench } from '../testing/worker-bench';
import { defaultPolicy } from './policy';
import { defaultSettings } from './settings';

const placement = { platformId, clusterId };
const minute = 60_000;

async function bench(world: WorkerWorld, kept = true): Promise<WorkerBench> {
  return await startWorkerBench(world, { kept });
}

const state = (at: WorkerBench, workerId: string) => at.workerVms.list().find((one) => one.workerId === workerId)?.state;
const reachState = (at: WorkerBench, workerId: string, wanted: string) =>
  eventually(`state ${wanted}`, () => state(at, workerId) === wanted);

describe('a deployment', () => {
  it('makes a VM as the design says, starts it with a token, tests it, and owns it', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    expect(world.vms).toEqual(['tidemark-worker-Default-01']);
    expect(world.disks).toEqual(['tidemark-worker-Default-01-system', 'tidemark-worker-image-1.0.0']);
    const [made] = [...world.engine.vmsById.values()];
    expect(made).toMatchObject({
      vm: {
        status: 'up',
        deleteProtected: true,
        description: expect.stringMatching(/^created by admin on \d{4}-/),
        comment: expect.stringContaining(workerId),
      },
      tags: ['tidemark', 'tidemark-worker'],
      nics: [{ name: 'nic1', vnicProfileId: 'profile1' }],
      attachments: [{ bootable: true, interface: 'virtio_scsi', active: true }],
    });
    expect(world.engine.headless.has(made!.vm.id)).toBe(true);
    expect([...world.engine.antiAffinity.values()]).toMatchObject([{ vmIds: [made!.vm.id] }]);
    expect(world.guests.seeds.get(made!.vm.id)).toMatchObject({
      workerId,
      hostName: 'tidemark-worker-Default-01',
      taskSlots: 4,
      plugin: { endpoint: 'plugin.example:8446', enrolmentEndpoint: 'plugin.example:8448' },
      ntpServers: ['engine.example'],
      interfaces: [],
    });
    expect(at.workerVms.list()).toMatchObject([
      {
        workerId,
        state: 'connected',
        name: 'tidemark-worker-Default-01',
        clusterName: 'Default',
        imageVersion: '1.0.0',
        outdated: false,
        taskSlots: 4,
      },
    ]);
    const cells = at.store.get(workerId).selfTest?.cells ?? [];
    expect(cells.map((cell) => cell.target)).toEqual(['engine.example:443', 'host1:54322', 'engine.example:54323']);
    expect(at.workerVms.supply.admits(workerId)).toBe(true);
    expect(at.workerVms.supply.vmOf(workerId)).toEqual({ platformId, vmId: made!.vm.id, clusterId, dataCenterId: 'dc1' });
    expect(at.journal.openEntries()).toEqual([]);
    expect(JSON.stringify(at.lines) + world.storeText + world.journal.text).not.toContain('tmk1.');
  });

  it('uploads the image once per storage domain, however many want it', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    await Promise.all([at.deploy({ name: 'one' }), at.deploy({ name: 'two' })]);
    await at.deploy();
    expect(world.uploads).toBe(1);
    expect(world.vms).toEqual(['one', 'tidemark-worker-Default-01', 'two']);
  });

  it('uploads into the own disk of each worker where the engine knows no copies', async () => {
    using world = new WorkerWorld();
    world.engine.copiesDisks = false;
    await using at = await bench(world);
    await at.deploy();
    await at.deploy();
    await eventually('no kept image', () => world.disks.length === 2);
    expect(world.disks).toEqual(['tidemark-worker-Default-01-system', 'tidemark-worker-Default-02-system']);
  });

  it('tells how far the upload is, and is undone by a cancel', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    world.halfway = (order) =>
      new Promise((resolve) => {
        order.signal.addEventListener('abort', () => resolve(), { once: true });
      });
    const operationId = await at.start({ kind: 'deploy', workerId: randomUUID(), platformId, clusterId, settings: defaultSettings });
    const operation = at.registry.get(operationId);
    await eventually('the upload', () => operation.currentPhase === 'transferring' && world.uploads === 1);
    expect(at.workerVms.list()).toMatchObject([{ state: 'deploying', operationId, name: 'tidemark-worker-Default-01' }]);
    operation.cancel();
    await eventually('the end', () => operation.result !== undefined);
    const progress: unknown[] = [];
    for await (const event of operation.watch(0, 100, AbortSignal.timeout(1000)))
      if (event?.event.type === 'progress') progress.push(event.event);
    expect(progress).toMatchObject([{ diskName: 'tidemark-worker-image-1.0.0', counters: { transferredBytes: 2048 }, totalBytes: 4096 }]);
    expect(operation.result).toMatchObject({ outcome: 'cancelled', leftForJanitor: [] });
    expect(world.vms).toEqual([]);
    await eventually('no disk', () => world.disks.length === 0);
    expect(at.reported).toEqual([]);
  });

  it.each([
    ['WORKER_NO_HOST', (world: WorkerWorld) => (world.engine.hostRows = [])],
    ['WORKER_NO_HOST', (world: WorkerWorld) => (world.engine.hostRows = [{ ...world.engine.hostRows[0]!, status: 'maintenance' }])],
    [
      'WORKER_NO_MEMORY',
      (world: WorkerWorld) => (world.engine.hostRows = [{ ...world.engine.hostRows[0]!, schedulableMemoryBytes: 2 ** 30 }]),
    ],
    [
      'WORKER_NO_STORAGE',
      (world: WorkerWorld) => world.engine.domains.set('sd1', { storageType: 'nfs', status: 'active', availableBytes: 2 ** 34 }),
    ],
    [
      'WORKER_NO_STORAGE',
      (world: WorkerWorld) => world.engine.domains.set('sd1', { storageType: 'nfs', status: 'active', usedBytes: 10 ** 15 }),
    ],
  ])('into a cluster without room ends with %s, before anything is made', async (code, fill) => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    fill(world);
    const operation = await at.run({ kind: 'deploy', workerId: randomUUID(), platformId, clusterId, settings: defaultSettings });
    expect(operation.result).toMatchObject({ outcome: 'failed', failure: { code } });
    expect(world.engine.calls).not.toContain('disks.create');
    expect(world.engine.calls).not.toContain('vms.create');
    expect(at.reported).toMatchObject([
      { code: 'WORKER_DEPLOYMENT_FAILED', severity: 'error', message: expect.stringContaining('Default') },
    ]);
  });

  it('that fails its self-test is rolled back, with what to mend', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    world.guests.verdict = 'SELF_TEST_VERDICT_FAILED';
    const workerId = randomUUID();
    const operation = await at.run({ kind: 'deploy', workerId, platformId, clusterId, settings: defaultSettings });
    expect(operation.result).toMatchObject({
      failure: { code: 'WORKER_SELF_TEST_FAILED', message: expect.stringContaining('host1: looked at. Open the port') },
      leftForJanitor: [],
    });
    expect(world.vms).toEqual([]);
    expect(world.disks).toEqual(['tidemark-worker-image-1.0.0']);
    expect(world.guests.revoked).toEqual([workerId]);
    expect(at.workerVms.list()).toEqual([]);
  });

  it('whose guest is silent is rolled back after the time', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    world.guests.speak = false;
    const operation = await at.run({ kind: 'deploy', workerId: randomUUID(), platformId, clusterId, settings: defaultSettings });
    expect(operation.result?.failure).toMatchObject({
      code: 'WORKER_NOT_ENROLLED',
      message: expect.stringContaining('plugin.example:8446'),
    });
    expect(world.vms).toEqual([]);
  });

  it('whose guest comes up too late for its token is started again with another one, which is good for longer', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    world.guests.late = 2;
    const workerId = await at.deploy();
    await reachState(at, workerId, 'connected');
    expect(world.guests.tokenLivesMs).toEqual([600_000, 1_800_000, 3_600_000]);
    expect(world.engine.calls.filter((call) => call === 'vms.startWithCloudInit')).toHaveLength(3);
    expect(world.vms).toEqual(['tidemark-worker-Default-01']);
    expect(at.lines.filter(({ text }) => /too late for its token/.test(text))).toHaveLength(2);
    expect(JSON.stringify(at.lines)).not.toContain('tmk1.');
    expect(at.journal.openEntries()).toEqual([]);
  });

  it('whose guest always comes up too late is rolled back, and says what to look at', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    world.guests.late = 100;
    const operation = await at.run({ kind: 'deploy', workerId: randomUUID(), platformId, clusterId, settings: defaultSettings });
    expect(operation.result).toMatchObject({
      failure: { code: 'WORKER_TOKEN_LATE', message: expect.stringContaining('3 times') },
      leftForJanitor: [],
    });
    expect(world.vms).toEqual([]);
    expect(at.journal.openEntries()).toEqual([]);
  });

  it('whose VM falls at the start says what the engine says', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    world.engine.failingStarts = 1;
    const operation = await at.run({ kind: 'deploy', workerId: randomUUID(), platformId, clusterId, settings: defaultSettings });
    expect(operation.result?.failure).toMatchObject({ code: 'WORKER_VM_NOT_STARTED', message: expect.stringContaining('no memory left') });
    expect(world.vms).toEqual([]);
  });

  it('refuses what is known to be wrong while the caller waits', async () => {
    using world = new WorkerWorld();
    world.engine.addVm('taken', []);
    await using at = await bench(world);
    const refused = (more: object) =>
      at
        .start({ kind: 'deploy', workerId: randomUUID(), platformId, clusterId, settings: defaultSettings, ...more })
        .catch((error: unknown) => error);
    expect(await refused({ platformId: 'x' })).toMatchObject({ code: 'PLATFORM_NOT_FOUND' });
    expect(await refused({ clusterId: 'x' })).toMatchObject({ code: 'WORKER_TARGET_NOT_FOUND', meta: { field: 'cluster_id' } });
    const settings = (more: object) => ({ settings: { ...defaultSettings, ...more } });
    expect(await refused(settings({ storageDomainId: 'x' }))).toMatchObject({
      code: 'WORKER_TARGET_NOT_FOUND',
      meta: { field: 'settings.storage_domain_id' },
    });
    expect(await refused(settings({ hostIds: ['x'] }))).toMatchObject({
      code: 'WORKER_TARGET_NOT_FOUND',
      meta: { field: 'settings.host_ids' },
    });
    expect(await refused(settings({ name: 'taken' }))).toMatchObject({ code: 'VM_NAME_TAKEN' });
    expect(await refused(settings({ taskSlots: 17 }))).toMatchObject({
      code: 'WORKER_SETTINGS_INVALID',
      meta: { field: 'settings.task_slots' },
    });
    await at.workerVms.putPolicy({ ...defaultPolicy(platformId), maxWorkers: 1 });
    await at.deploy({ hostIds: ['h1'] });
    expect(await refused({})).toMatchObject({ code: 'WORKER_LIMIT_REACHED', status: 'FAILED_PRECONDITION' });
    using without = new WorkerWorld('');
    await using other = await bench(without);
    await expect(
      other.start({ kind: 'deploy', workerId: randomUUID(), platformId, clusterId, settings: defaultSettings }),
    ).rejects.toMatchObject({ code: 'WORKER_IMAGE_MISSING', message: expect.stringContaining(without.folder) });
  });

  it('goes on with the upload that the engine opened when its answer got lost', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world, false);
    let opened = 0;
    world.engine.after = (call) => {
      if (call === 'transfers.create' && ++opened === 1) throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'reset' });
    };
    await at.deploy();
    expect([opened, world.uploads]).toEqual([1, 1]);
  });

  it('does not use an image whose upload broke off, and removes it', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world, false);
    const sha256 = 'a'.repeat(64);
    const mark = (madeBy: string, of: string) => `tidemark worker image version=1.0.0 sha256=${sha256} plugin=${madeBy} state=${of}`;
    world.engine.addDisk({ name: 'tidemark-worker-image-1.0.0', description: mark('plugin-instance', 'uploading') });
    world.engine.addDisk({ name: 'tidemark-worker-image-1.0.0', description: mark('another-plugin', 'complete') });
    await at.deploy();
    expect(world.uploads).toBe(1);
    await eventually('the broken one gone', () => world.disks.length === 3);
    expect([...world.engine.disksById.values()].map((disk) => disk.description).filter((text) => text.includes('state='))).toEqual([
      mark('another-plugin', 'complete'),
      expect.stringMatching(/plugin=plugin-instance state=complete$/),
    ]);
  });
});

describe('a deployed worker', () => {
  it('is not removed for an entry that a kill left open after it was complete', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world, false);
    const workerId = await at.deploy();
    const { vmId, name } = at.store.get(workerId);
    const entry = {
      operationId: 'killed',
      platformId,
      vmId: '',
      kind: 'vm',
      mark: '',
      objectId: vmId,
      details: { role: 'worker', name },
    } as const;
    await at.journal.intend(entry);
    await at.operations.parts.cleaner.settle('killed', { deadlineMs: minute });
    expect(at.journal.openEntries()).toEqual([]);
    expect(world.engine.vmsById.has(vmId)).toBe(true);
    expect(state(at, workerId)).toBe('connected');
  });

  it('is stopped when idle, started when work waits, each time with a new token', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    await reachState(at, workerId, 'stopped');
    expect([...world.engine.vmsById.values()][0]?.vm.status).toBe('down');
    expect(at.workerVms.supply.want(placement)).toEqual({ kind: 'coming', reason: 'worker-starting' });
    expect(at.workerVms.supply.want(placement)).toEqual({ kind: 'coming', reason: 'worker-starting' });
    await reachState(at, workerId, 'connected');
    expect(world.engine.calls.filter((call) => call === 'vms.startWithCloudInit')).toHaveLength(2);
    expect(world.guests.tokens.size).toBe(0);
    // Everybody busy: the dispatcher takes the next hop.
    expect(at.workerVms.supply.want(placement)).toMatchObject({ kind: 'none', code: 'worker-slots' });
  });

  it('is powered off when its guest does not listen, and kept running while it is wanted warm', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    await at.workerVms.putPolicy({ ...defaultPolicy(platformId), warmWorkers: 1 });
    const workerId = await at.deploy();
    await at.operations.parts.patience.clock.sleep(30 * minute);
    expect(state(at, workerId)).toBe('connected');
    world.engine.deafGuests = true;
    const operation = await at.run({ kind: 'stop', workerId, force: false });
    expect(operation.outcome).toBe('success');
    expect(world.engine.calls).toContain('vms.stop');
    // Warm means warm.
    await reachState(at, workerId, 'connected');
  });

  it.each([
    ['is powered off behind our back', (world: WorkerWorld, vmId: string) => void world.engine.vms.stop(vmId), 'WORKER_BACK'],
    ['is cut off while its VM runs', (world: WorkerWorld, vmId: string) => world.guests.silence(vmId), 'WORKER_BACK'],
    [
      'is deleted',
      (world: WorkerWorld, vmId: string) => {
        world.guests.cut(vmId);
        world.engine.vmsById.delete(vmId);
      },
      'WORKER_RECREATED',
    ],
  ])('that %s is brought back', async (_what, harm, event) => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    const { vmId } = at.store.get(workerId);
    harm(world, vmId);
    await eventually(event, () => at.reported.some((one) => one.code === event));
    expect(at.reported.map((one) => one.code)).toEqual(['WORKER_DEPLOYED', 'WORKER_VM_LOST', event]);
    await reachState(at, workerId, 'connected');
    expect(world.vms).toEqual(['tidemark-worker-Default-01']);
    expect(at.journal.openEntries()).toEqual([]);
  });

  it('that cannot be brought back is given up after some tries, and tried again when needed', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    world.guests.speak = false;
    world.guests.cut(at.store.get(workerId).vmId);
    await reachState(at, workerId, 'failed');
    expect(at.reported.map((one) => one.code)).toEqual(['WORKER_DEPLOYED', 'WORKER_VM_LOST', 'WORKER_START_FAILED', 'WORKER_GIVEN_UP']);
    expect(at.workerVms.list()[0]?.problem).toMatchObject({ code: 'WORKER_NOT_ENROLLED' });
    expect(at.workerVms.supply.want(placement)).toMatchObject({ kind: 'none', code: 'worker-failed' });
    world.guests.speak = true;
    await at.run({ kind: 'start', workerId });
    await reachState(at, workerId, 'connected');
    expect(at.store.get(workerId)).toMatchObject({ failures: 0, problem: null });
  });

  it('does not lose a try while host or engine are away', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    await at.run({ kind: 'stop', workerId, force: false });
    world.guests.hostAway = true;
    const operation = await at.run({ kind: 'start', workerId });
    expect(operation.result?.failure).toMatchObject({ code: 'PEER_UNAVAILABLE' });
    expect(at.store.get(workerId)).toMatchObject({ phase: 'stopped', failures: 0 });
  });

  it('that did not come up is shut down in the end, also when the engine is away at that moment', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    await at.run({ kind: 'stop', workerId, force: false });
    world.guests.verdict = 'SELF_TEST_VERDICT_FAILED';
    let refused = 0;
    world.engine.before = (call) => {
      if (call !== 'vms.shutdown' || refused > 0) return;
      refused += 1;
      throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'it restarts' });
    };
    const operation = await at.run({ kind: 'start', workerId });
    expect(operation.result?.failure).toMatchObject({ code: 'WORKER_SELF_TEST_FAILED' });
    expect(refused).toBe(1);
    await eventually('it is down', () => world.engine.vmsById.get(at.store.get(workerId).vmId)?.vm.status === 'down');
    await reachState(at, workerId, 'stopped');
    expect(at.store.get(workerId)).toMatchObject({ failures: 1, problem: { code: 'WORKER_SELF_TEST_FAILED' } });
  });

  it('waits for its tasks before it is stopped, unless it is forced', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    const slot = at.fleet.take(workerId);
    const operationId = await at.start({ kind: 'stop', workerId, force: false });
    await reachState(at, workerId, 'draining');
    expect(at.workerVms.supply.admits(workerId)).toBe(false);
    await expect(at.start({ kind: 'remove', workerId, force: false })).rejects.toMatchObject({ code: 'WORKER_BUSY', status: 'ABORTED' });
    at.registry.get(operationId).cancel();
    await reachState(at, workerId, 'connected');
    expect(at.workerVms.supply.admits(workerId)).toBe(true);
    const forced = await at.run({ kind: 'stop', workerId, force: true });
    expect(forced.outcome).toBe('success');
    slot.release();
  });

  it('keeps what an administrator asked: drained over a restart of its VM', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    await at.workerVms.drain(workerId);
    expect(state(at, workerId)).toBe('drained');
    expect(at.workerVms.supply.want(placement)).toMatchObject({ code: 'worker-drained' });
    await at.run({ kind: 'stop', workerId, force: false });
    await at.run({ kind: 'start', workerId });
    expect(state(at, workerId)).toBe('drained');
    await at.workerVms.resume(workerId);
    expect(state(at, workerId)).toBe('connected');
    await expect(at.workerVms.drain('nobody')).rejects.toMatchObject({ code: 'WORKER_NOT_FOUND' });
  });

  it('is tested any time; a failed cell fails the test and stays in its record', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    await at.run({ kind: 'test', workerId });
    expect(world.guests.tests).toBe(2);
    world.guests.verdict = 'SELF_TEST_VERDICT_FAILED';
    const failed = await at.run({ kind: 'test', workerId });
    expect(failed.result?.failure).toMatchObject({ code: 'WORKER_SELF_TEST_FAILED' });
    expect(at.workerVms.list()[0]).toMatchObject({
      state: 'connected',
      problem: { code: 'WORKER_SELF_TEST_FAILED' },
      selfTest: { verdict: 'SELF_TEST_VERDICT_FAILED' },
    });
  });
});

describe('a replacement', () => {
  it('gives a worker other settings in a new VM under the same id, and removes the old one', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    const { vmId } = at.store.get(workerId);
    // A disk that is being restored through it must not go with the VM.
    const foreign = world.engine.addDisk({ name: 'precious' });
    await world.engine.diskAttachments.add(vmId, { diskId: foreign.id, interface: 'virtio_scsi', bootable: false, active: true });
    const operation = await at.run({ kind: 'edit', workerId, settings: { ...defaultSettings, taskSlots: 8 }, force: false });
    expect(operation.result).toMatchObject({ outcome: 'success', createdId: workerId });
    await eventually('one VM', () => world.vms.length === 1);
    expect(world.vms).toEqual(['tidemark-worker-Default-01']);
    expect(world.engine.disksById.has(foreign.id)).toBe(true);
    expect(at.store.get(workerId)).toMatchObject({ formerVmIds: [], settings: { taskSlots: 8 } });
    expect(at.store.get(workerId).vmId).not.toBe(vmId);
    expect(state(at, workerId)).toBe('connected');
  });

  it('that fails its test leaves the old VM, which works when it is needed', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    const { vmId } = at.store.get(workerId);
    world.guests.verdict = 'SELF_TEST_VERDICT_FAILED';
    const operation = await at.run({ kind: 'redeploy', workerId, force: false });
    expect(operation.result?.failure).toMatchObject({ code: 'WORKER_SELF_TEST_FAILED' });
    expect(world.vms).toEqual(['tidemark-worker-Default-01']);
    expect(at.store.get(workerId)).toMatchObject({ vmId, phase: 'stopped', formerVmIds: [] });
    expect(at.reported.at(-1)).toMatchObject({ code: 'WORKER_REPLACEMENT_FAILED' });
    world.guests.verdict = 'SELF_TEST_VERDICT_PASSED';
    await eventually('a start', () => at.workerVms.supply.want(placement).kind === 'coming');
    await reachState(at, workerId, 'connected');
  });

  it('happens by itself after another image is installed, one worker after the other, and the old image goes', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    await at.workerVms.putPolicy({ ...defaultPolicy(platformId), warmWorkers: 2 });
    const ids = [await at.deploy(), await at.deploy()];
    world.putImage('1.10.0');
    let together = 0;
    await eventually('both replaced', () => {
      together = Math.max(together, at.workerVms.list().filter((one) => one.state === 'deploying').length);
      return ids.every((id) => at.store.get(id).imageVersion === '1.10.0' && at.store.get(id).formerVmIds.length === 0);
    });
    expect(together).toBe(1);
    expect(world.vms).toEqual(['tidemark-worker-Default-01', 'tidemark-worker-Default-02']);
    await eventually('the old image gone', () => !world.disks.includes('tidemark-worker-image-1.0.0'));
  });
});

describe('the supply', () => {
  it('deploys into a cluster that has none when a task needs it, and says meanwhile what to hope for', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    expect(at.workerVms.supply.want(placement)).toEqual({ kind: 'coming', reason: 'worker-deploying' });
    expect(at.workerVms.supply.want(placement)).toEqual({ kind: 'coming', reason: 'worker-deploying' });
    await eventually('a worker', () => at.workerVms.list()[0]?.state === 'connected');
    expect(world.vms).toHaveLength(1);
    expect([...world.engine.vmsById.values()][0]?.vm.description).toContain('as a task needed it');
  });

  it('tells why it deploys none', async () => {
    using without = new WorkerWorld('');
    await using none = await bench(without);
    expect(none.workerVms.supply.want(placement)).toMatchObject({ kind: 'none', code: 'worker-image-missing' });
    expect(none.workerVms.supply.want({ platformId: '', clusterId: '' })).toMatchObject({ code: 'worker-beside-server-only' });
    using world = new WorkerWorld();
    await using at = await bench(world);
    await at.workerVms.putPolicy({ ...defaultPolicy(platformId), deployAutomatically: false });
    expect(at.workerVms.supply.want(placement)).toMatchObject({ kind: 'none', code: 'worker-none-in-cluster' });
    expect(at.workerVms.supply.want({ platformId, clusterId: '' })).toMatchObject({ code: 'worker-none-deployed' });
    expect(world.vms).toEqual([]);
  });

  it('leaves a cluster without room alone for a while, tells once, and tries again', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const [row] = world.engine.hostRows;
    world.engine.hostRows = [];
    at.workerVms.supply.want(placement);
    await eventually('the reason', () => {
      const answer = at.workerVms.supply.want(placement);
      return answer.kind === 'none' && answer.code === 'worker-deployment-failed' && answer.message.includes('Activate a host');
    });
    await eventually('three tries', () => {
      at.workerVms.supply.want(placement);
      return at.registry.list(0).filter((one) => one.outcome === 'failed').length >= 3;
    });
    expect(at.reported.map((one) => one.code)).toEqual(['WORKER_DEPLOYMENT_FAILED']);
    world.engine.hostRows = [row!];
    await eventually('a worker', () => {
      at.workerVms.supply.want(placement);
      return at.workerVms.list()[0]?.state === 'connected';
    });
  });

  it('prepares workers for the clusters of VMs before they are needed, and keeps them', async () => {
    using world = new WorkerWorld();
    const vm = world.engine.addVm('web', [{}]);
    await using at = await bench(world);
    const clock = at.operations.parts.patience.clock;
    at.workerVms.prepare(platformId, [vm.vm.id, 'nobody'], clock.now() + 20 * minute);
    await clock.sleep(5 * minute);
    expect(world.vms).toEqual(['web']);
    await eventually('a worker', () => at.workerVms.list()[0]?.state === 'connected');
    // Idle for longer than the rule allows, but needed.
    await clock.sleep(5 * minute);
    expect(at.workerVms.list()[0]?.state).toBe('connected');
    expect(() => at.workerVms.prepare('x', [], 0)).toThrow(/x/);
  });
});

describe('removal', () => {
  it('takes VM, disk, certificate and, with the last worker, the kept image', async () => {
    using world = new WorkerWorld();
    await using at = await bench(world);
    const workerId = await at.deploy();
    expect(at.workerVms.platformInUse(platformId)).toContain('tidemark-worker-Default-01');
    await at.run({ kind: 'remove', workerId, force: false });
    expect(at.workerVms.list().filter((one) => one.workerId === workerId)).toEqual([]);
    await eventually('nothing left', () => world.vms.length === 0 && world.disks.length === 0);
    expect(world.guests.revoked).toEqual([workerId]);
    expect(at.workerVms.platformInUse(platformId)).toBeUndefined();
    await expect(at.start({ kind: 'remove', workerId, force: false })).rejects.toMatchObject({ code: 'WORKER_NOT_FOUND' });
    expect(at.store.isRemoved(workerId)).toBe(true);
  });

  it('shows workers of others and removes those that an administrator names', async () => {
    using world = new WorkerWorld();
    const lost = world.engine.addVm('old-worker', [{}]);
    lost.tags.push('tidemark-worker');
    lost.vm.deleteProtected = true;
    lost.vm.comment = 'tidemark-worker worker=w plugin=lost-plugin operation=o';
    const plain = world.engine.addVm('web', [{}]);
    await using at = await bench(world);
    const workerId = await at.deploy();
    expect(await at.workerVms.orphans()).toMatchObject([
      { platformId, vmId: lost.vm.id, name: 'old-worker', madeBy: 'lost-plugin', status: 'up' },
    ]);
    for (const vmId of [plain.vm.id, at.store.get(workerId).vmId, 'nobody']) {
      const refused = await at.run({ kind: 'remove-orphan', platformId, vmId });
      expect(refused.result?.failure).toMatchObject({ code: 'WORKER_ORPHAN_NOT_FOUND' });
    }
    expect((await at.run({ kind: 'remove-orphan', platformId, vmId: lost.vm.id })).outcome).toBe('success');
    expect(world.vms).toEqual(['tidemark-worker-Default-01', 'web']);
  });
});
