import { defineErrors } from '../../common/errors/define-errors';
import { FakeSupply } from '../testing/fake-supply';
import { ManualClock, settled } from '../testing/manual-clock';
import { MemoryWorker } from '../testing/memory-worker';
import { quietLogger } from '../testing/quiet-logger';
import { ConnectedFleet } from './connected-fleet';
import { Dispatcher, defaultDispatcherLimits } from './dispatcher';
import type { Slot } from './dispatcher';
import type { Placement } from './tasks';

/** What a worker answers; declared by the worker process. */
const TestErrors = defineErrors({
  WORKER_SLOTS_TAKEN: { kind: 'failure', retry: 'after-delay', status: 'RESOURCE_EXHAUSTED', message: () => 'it runs 1 task already' },
});

const own: Placement = { platformId: 'p1', clusterId: 'c1' };
const minute = 60_000;

function bench() {
  const clock = new ManualClock();
  const fleet = new ConnectedFleet(quietLogger().logger, undefined, clock);
  const supply = new FakeSupply();
  const dispatcher = new Dispatcher(fleet, supply, clock);
  const workers: MemoryWorker[] = [];
  const stop = new AbortController();
  return {
    clock,
    fleet,
    supply,
    dispatcher,
    /** A worker in a cluster of platform p1; beside the server without one. */
    async worker(id: string, clusterId = '', slots = 4, capabilities: readonly string[] = []): Promise<MemoryWorker> {
      const worker = new MemoryWorker(fleet, id, slots, { platformId: clusterId === '' ? '' : 'p1', clusterId, capabilities });
      workers.push(worker);
      await settled();
      return worker;
    },
    /** Asks for a slot; what became of it stands in the answer. */
    ask(placement: Placement = own) {
      const asked = {
        reasons: [] as string[],
        slot: undefined as Slot | undefined,
        error: undefined as unknown,
        abort: new AbortController(),
      };
      const signal = AbortSignal.any([asked.abort.signal, stop.signal]);
      const waiting = (reason: string) => asked.reasons.push(reason);
      dispatcher.slot({ placement, signal, waiting }).then(
        (slot) => (asked.slot = slot),
        (error: unknown) => (asked.error = error),
      );
      return asked;
    },
    async asked(placement: Placement = own) {
      const asked = this.ask(placement);
      await settled();
      return asked;
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      for (const worker of workers) worker.kill();
      fleet.stop();
      await settled();
    },
  };
}

describe('a hop', () => {
  it('goes to another cluster at once when none will come to its own, and says so', async () => {
    await using at = bench();
    await at.worker('server');
    await at.worker('other', 'c2');
    at.supply.vms.set('other', { platformId: 'p1', vmId: 'vm7', clusterId: 'c2' });
    const task = await at.asked();
    expect(task.slot).toMatchObject({ workerId: 'other', vmId: 'vm7', hop: 'other-cluster', hopReason: { code: 'CLUSTER_FULL' } });
    expect(task.reasons).toEqual([]);
    await at.worker('own', 'c1');
    expect((await at.asked()).slot).toMatchObject({ workerId: 'own', hop: 'same-cluster', hopReason: undefined });
  });

  it('waits for a worker that is being deployed, then started, and takes it once it is admitted', async () => {
    await using at = bench();
    await at.worker('server');
    at.supply.expect({ kind: 'coming', reason: 'worker-deploying' });
    const task = await at.asked();
    at.supply.expect({ kind: 'coming', reason: 'worker-starting' });
    at.supply.notAdmitted.add('own');
    await at.worker('own', 'c1');
    await at.clock.advance(3 * minute);
    expect(task).toMatchObject({ slot: undefined, reasons: ['worker-deploying', 'worker-starting'] });
    at.supply.notAdmitted.delete('own');
    at.supply.changed();
    await settled();
    expect(task.slot).toMatchObject({ workerId: 'own', hop: 'same-cluster' });
    expect(task.reasons.at(-1)).toBe('');
    expect(at.supply.wanted[0]).toEqual(own);
  });

  it('is taken when the worker that was to come does not, or is said not to come after all', async () => {
    await using at = bench();
    await at.worker('server');
    at.supply.expect({ kind: 'coming', reason: 'worker-starting' });
    const patient = await at.asked();
    await at.clock.advance(defaultDispatcherLimits.comingMs - 2000);
    expect(patient.slot).toBeUndefined();
    await at.clock.advance(3000);
    expect(patient.slot).toMatchObject({ workerId: 'server', hop: 'beside-server', hopReason: { code: 'worker-late' } });
    const second = await at.asked();
    at.supply.expect({ kind: 'none', code: 'WORKER_START_FAILED', message: 'its disk is illegal' });
    await settled();
    expect(second.slot).toMatchObject({ hop: 'beside-server', hopReason: { code: 'WORKER_START_FAILED' } });
  });

  it('is not taken while workers of the own cluster are merely busy, until that has lasted', async () => {
    await using at = bench();
    await at.worker('server');
    await at.worker('own', 'c1', 1);
    const first = await at.asked();
    const second = await at.asked();
    const third = await at.asked();
    await at.clock.advance(30_000);
    expect(second).toMatchObject({ slot: undefined, reasons: ['worker-slots'] });
    first.slot!.release();
    await settled();
    expect(second.slot).toMatchObject({ workerId: 'own' });
    await at.clock.advance(31_000);
    expect(third.slot).toMatchObject({ workerId: 'server', hop: 'beside-server', hopReason: { code: 'worker-slots' } });
  });

  it('is forbidden by the rules: the task fails with the reason of each, soon where nothing can change by itself', async () => {
    await using at = bench();
    at.supply.rule({ allowOtherClusters: false, allowBesideServer: false });
    await at.worker('server');
    await at.worker('other', 'c2');
    const strict = await at.asked();
    expect(strict.reasons).toEqual(['worker-none']);
    await at.clock.advance(defaultDispatcherLimits.noHopMs + 1000);
    expect(strict.error).toMatchObject({ code: 'WORKER_NONE' });
    expect(String(strict.error)).toMatch(
      /own cluster: no host of the cluster has room; other clusters: not allowed .*; beside the server: not/,
    );
  });

  it('is waited for while a worker beside the server may come back', async () => {
    await using at = bench();
    const task = await at.asked();
    await at.clock.advance(9 * minute);
    expect(task).toMatchObject({ reasons: ['worker-none'], error: undefined });
    const other = await at.asked({ platformId: '', clusterId: '' });
    await at.clock.advance(minute);
    expect(task.error).toMatchObject({ code: 'WORKER_NONE' });
    expect(other.error).toBeUndefined();
    await at.worker('server');
    expect(other.slot).toMatchObject({ workerId: 'server', hopReason: undefined });
  });

  it('with attachment goes to worker VMs of the data centre that can do it, and never beside the server', async () => {
    await using at = bench();
    const attached: Placement = { ...own, needsAttachment: { dataCenterId: 'dc1' } };
    await at.worker('server', '', 4, ['disk-attachment']);
    await at.worker('old', 'c1');
    at.supply.vms.set('old', { platformId: 'p1', vmId: 'v1', clusterId: 'c1', dataCenterId: 'dc1' });
    await at.worker('able', 'c2', 4, ['disk-attachment']);
    at.supply.vms.set('able', { platformId: 'p1', vmId: 'v2', clusterId: 'c2', dataCenterId: 'dc1' });
    expect((await at.asked(attached)).slot).toMatchObject({ workerId: 'able', vmId: 'v2', hop: 'other-cluster' });
    at.supply.rule({ allowOtherClusters: false });
    const second = await at.asked(attached);
    await at.clock.advance(defaultDispatcherLimits.noHopMs + 1000);
    expect(second.error).toMatchObject({ code: 'WORKER_NONE' });
  });
});

describe('limits', () => {
  const on = (hostId: string, ...storageDomainIds: string[]): Placement => ({ ...own, hostId, storageDomainIds });

  it('hold tasks back with the reason, and nobody who needs something else', async () => {
    await using at = bench();
    await at.worker('own', 'c1', 40);
    at.supply.rule({ tasksPerHost: 1, tasksPerStorageDomain: 2, tasksPerPlatform: 3 });
    const a = await at.asked(on('hostA', 'd1', 'd1'));
    const a2 = await at.asked(on('hostA'));
    const b = await at.asked(on('hostB', 'd1'));
    const c = await at.asked(on('hostC', 'd1'));
    const d = await at.asked(on('hostD', 'd2'));
    const e = await at.asked(on('hostE'));
    expect([a, a2, b, c, d, e].map((task) => task.slot !== undefined)).toEqual([true, false, true, false, true, false]);
    expect([a2, c, e].map((task) => task.reasons)).toEqual([['host-slots'], ['storage-slots'], ['platform-slots']]);
    a.slot!.release();
    await settled();
    expect([a2, c, e].map((task) => task.slot !== undefined)).toEqual([true, false, false]);
    expect(c.reasons.at(-1)).toBe('platform-slots');
    at.supply.rule({ tasksPerPlatform: 16 });
    await settled();
    expect([c, e].map((task) => task.slot !== undefined)).toEqual([true, true]);
  });

  it('count a task once, whatever the lanes of its further disks, which go no farther and take nothing that is waited for', async () => {
    await using at = bench();
    await at.worker('own', 'c1', 3);
    await at.worker('other', 'c2', 3);
    at.supply.rule({ tasksPerHost: 1 });
    const task = await at.asked(on('hostA', 'd1'));
    const lane = at.dispatcher.trySlot(on('hostA', 'd1'), task.slot);
    expect(lane).toMatchObject({ workerId: 'own', hop: 'same-cluster' });
    const waiting = await at.asked(on('hostA', 'd1'));
    expect(waiting.reasons).toEqual(['host-slots']);
    const second = at.dispatcher.trySlot(own, task.slot);
    expect(second).toBeDefined();
    expect(at.dispatcher.trySlot(own, task.slot)).toBeUndefined();
    const queued = await at.asked(on('hostB'));
    expect(queued.reasons).toEqual(['worker-slots']);
    at.supply.expect({ kind: 'coming', reason: 'worker-starting' });
    second!.release();
    await settled();
    expect(queued.slot).toMatchObject({ workerId: 'own' });
    const third = await at.asked(on('hostC'));
    expect(third.reasons).toEqual(['worker-starting']);
    lane!.release();
    lane!.release();
    await settled();
    expect(third.slot).toBeDefined();
    task.slot!.release();
    await settled();
    expect(waiting.slot).toBeDefined();
  });

  it('starve nobody who needs two things of which one is always taken', async () => {
    await using at = bench();
    await at.worker('own', 'c1', 60);
    at.supply.rule({ tasksPerHost: 1, tasksPerStorageDomain: 1 });
    // Host A and domain d1 are never free at the same time, and there is always somebody who wants only one of them.
    let host = await at.asked(on('hostA'));
    let domain = await at.asked(on('hostB', 'd1'));
    const victim = await at.asked(on('hostA', 'd1'));
    let grants = 0;
    while (!victim.slot && grants < 200) {
      const nextHost = await at.asked(on('hostA'));
      const nextDomain = await at.asked(on(`host ${grants}`, 'd1'));
      host.slot!.release();
      await settled();
      if (nextHost.slot) [host, grants] = [nextHost, grants + 1];
      domain.slot!.release();
      await settled();
      if (nextDomain.slot) [domain, grants] = [nextDomain, grants + 1];
    }
    expect(victim.slot).toBeDefined();
    expect(grants).toBeLessThanOrEqual(defaultDispatcherLimits.maxOvertaken + 2);
    expect(victim.reasons).toEqual(expect.arrayContaining(['host-slots']));
  });
});

describe('a slot whose worker is lost', () => {
  it('gets another worker ahead of those who wait, and keeps its places', async () => {
    await using at = bench();
    at.supply.rule({ tasksPerHost: 1 });
    const lost = await at.worker('a', 'c1', 1);
    const b = await at.worker('b', 'c1', 1);
    lost.answer = b.answer = () => 'hang';
    const first = await at.asked({ ...own, hostId: 'h1' });
    const other = await at.asked();
    const queued = await at.asked();
    const { signal } = new AbortController();
    expect(first.slot!.workerId).toBe('a');
    const run = at.dispatcher.runIn(first.slot!, { backupDisk: {} }, { correlationId: 'x', signal, progress: () => undefined });
    await settled();
    at.fleet.abandon('a');
    expect((await run).failure).toMatchObject({ code: 'WORKER_LOST' });
    expect(at.dispatcher.isUsable(first.slot!)).toBe(false);
    lost.kill();
    const exchanged = at.dispatcher.exchange(first.slot!, signal);
    const sameHost = await at.asked({ ...own, hostId: 'h1' });
    other.slot!.release();
    await exchanged;
    expect(first.slot).toMatchObject({ workerId: 'b', hop: 'same-cluster' });
    expect(first.reasons).toEqual(['worker-slots', '']);
    expect(at.dispatcher.isUsable(first.slot!)).toBe(true);
    expect(queued.slot).toBeUndefined();
    expect(sameHost.reasons).toEqual(['host-slots']);
    first.slot!.release();
    await settled();
    expect(queued.slot).toMatchObject({ workerId: 'b' });
    expect(at.fleet.connected().map(({ usedSlots }) => usedSlots)).toEqual([1]);
  });

  it('comes back to the same worker only when there is no other', async () => {
    await using at = bench();
    const { signal } = new AbortController();
    const options = { correlationId: 'x', signal, progress: () => undefined };
    const only = await at.worker('a', 'c1');
    only.answer = () => 'hang';
    const task = await at.asked();
    const lose = async () => {
      const run = at.dispatcher.runIn(task.slot!, { backupDisk: {} }, options);
      await settled();
      // Its heartbeats go on, and nothing is heard of the task.
      await at.clock.advance(2 * minute);
      await new Promise((resolve) => setTimeout(resolve, 600));
      return await run;
    };
    expect((await lose()).failure).toMatchObject({ code: 'WORKER_LOST' });
    expect(only.cancelled).toHaveLength(1);
    await at.dispatcher.exchange(task.slot!, signal);
    expect(task.slot!.workerId).toBe('a');
    await at.worker('b', 'c1', 1);
    await lose();
    await at.dispatcher.exchange(task.slot!, signal);
    expect(task.slot!.workerId).toBe('b');
  });

  it('is one whose worker refuses the task too, as it has its slots full of what we gave up', async () => {
    await using at = bench();
    const full = await at.worker('a', 'c1', 1);
    full.answer = () => ({ failure: TestErrors.WORKER_SLOTS_TAKEN({}) });
    const task = await at.asked();
    await at.worker('b', 'c1', 1);
    const { signal } = new AbortController();
    const options = { correlationId: 'x', signal, progress: () => undefined };
    expect((await at.dispatcher.runIn(task.slot!, { backupDisk: {} }, options)).failure).toMatchObject({ code: 'WORKER_SLOTS_TAKEN' });
    expect(at.dispatcher.isUsable(task.slot!)).toBe(false);
    await at.dispatcher.exchange(task.slot!, signal);
    expect(task.slot!.workerId).toBe('b');
  });

  it('is without a worker, and gives its places back, when it is released or cancelled while it waits for one', async () => {
    await using at = bench();
    at.supply.rule({ tasksPerHost: 1 });
    const worker = await at.worker('a', 'c1');
    const first = await at.asked({ ...own, hostId: 'h1' });
    worker.kill();
    await settled();
    const abort = new AbortController();
    const exchanged = at.dispatcher.exchange(first.slot!, abort.signal);
    abort.abort();
    await expect(exchanged).rejects.toMatchObject({ code: 'CANCELLED' });
    const { signal } = new AbortController();
    const outcome = await at.dispatcher.runIn(first.slot!, { backupDisk: {} }, { correlationId: '', signal, progress: () => undefined });
    expect(outcome.failure).toMatchObject({ code: 'WORKER_LOST' });
    const again = Promise.all([at.dispatcher.exchange(first.slot!, signal), at.dispatcher.exchange(first.slot!, signal)]);
    const next = await at.asked({ ...own, hostId: 'h1' });
    first.slot!.release();
    await at.worker('b', 'c1');
    await again;
    expect(next.slot).toMatchObject({ workerId: 'b' });
    expect(at.fleet.connected()).toMatchObject([{ workerId: 'b', usedSlots: 1 }]);
  });
});

describe('the queue', () => {
  it('is bounded', async () => {
    const clock = new ManualClock();
    const fleet = new ConnectedFleet(quietLogger().logger);
    const dispatcher = new Dispatcher(fleet, new FakeSupply(), clock, { ...defaultDispatcherLimits, maxWaiting: 1 });
    const stop = new AbortController();
    const options = { placement: own, signal: stop.signal, waiting: () => undefined };
    const first = dispatcher.slot(options);
    await expect(dispatcher.slot(options)).rejects.toMatchObject({ code: 'WORKER_QUEUE_FULL', retry: 'after-delay' });
    stop.abort();
    await expect(first).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('lets those go who are cancelled, also before they come', async () => {
    await using at = bench();
    const task = await at.asked();
    task.abort.abort();
    await settled();
    expect(task.error).toMatchObject({ code: 'CANCELLED' });
    const signal = AbortSignal.abort();
    await expect(at.dispatcher.slot({ placement: own, signal, waiting: () => undefined })).rejects.toMatchObject({ code: 'CANCELLED' });
    await at.worker('server');
    expect((await at.asked()).slot).toMatchObject({ workerId: 'server' });
  });

  it('asks for workers once per cluster and look, however many wait', async () => {
    await using at = bench();
    at.supply.expect({ kind: 'coming', reason: 'worker-starting' });
    for (let n = 0; n < 20; n += 1) at.ask();
    await settled();
    at.supply.wanted.length = 0;
    at.supply.changed();
    expect(at.supply.wanted).toHaveLength(1);
  });
});
