/**
 * Looks after the worker VMs: shuts idle ones down, keeps warm ones up, notices lost ones, goes on with what a crash cut off, replaces those
 * of another image, starts those that a schedule will need. Looks and decides; operations do it.
 */
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { ConnectedWorker } from '../workers/ports';
import { report } from './flow-parts';
import { ImageUpdates } from './image-updates';
import { isDue, startAheadMs, suspiciousMs } from './timing';
import type { WorkerOperations } from './worker-operations';
import type { OwnWorkerSupply } from './worker-supply';
import { workerEvents } from './worker-vm-errors';
import type { StoredWorker } from './worker-store';

const lookMs = 5_000;
/** Between looks for another image and for disks that nobody needs. */
const tidyMs = 10 * 60_000;
const imageLookMs = 30_000;
/** One look at an engine. */
const engineLookMs = 20_000;

interface Need {
  readonly platformId: string;
  readonly clusterId: string;
  readonly neededAt: number;
  /** A worker was running for it once: if an administrator stops or removes that one, it stays so until a task comes. */
  met: boolean;
}

export class WorkerKeeper {
  readonly #stop = new AbortController();
  readonly #asked = new Map<string, number>();
  readonly #updates: ImageUpdates;
  #needs: Need[] = [];
  #loop: Promise<void> | undefined;
  /** The first look, of the clock's elapsed time: who has not been there since this process began is missed from then on. */
  #beganAt: number | undefined;
  #imageLookedAt = Number.NEGATIVE_INFINITY;
  #tidiedAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly operations: WorkerOperations,
    private readonly supply: OwnWorkerSupply,
  ) {
    this.#updates = new ImageUpdates(operations);
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** Work is coming to these clusters. */
  expect(platformId: string, clusterIds: Iterable<string>, neededAt: number): void {
    for (const clusterId of clusterIds) {
      this.#needs = this.#needs.filter(
        (need) => need.platformId !== platformId || need.clusterId !== clusterId || need.neededAt !== neededAt,
      );
      this.#needs.push({ platformId, clusterId, neededAt, met: false });
    }
    this.#serveNeeds(this.#now());
  }

  /** One look at everything; public for tests. */
  async look(): Promise<void> {
    const { store, workers, images } = this.operations.parts;
    const now = this.#now();
    const elapsed = this.#elapsed();
    this.#beganAt ??= elapsed;
    if (elapsed - this.#imageLookedAt >= imageLookMs) {
      this.#imageLookedAt = elapsed;
      // Its absence is an answer too: `images.missing` keeps it.
      await images.find().catch(() => undefined);
      await this.#lookForHosts();
    }
    this.#serveNeeds(now);
    const connected = new Map(workers.connected().map((worker) => [worker.workerId, worker]));
    for (const worker of store.workers()) {
      if (this.operations.ownerOf(worker.workerId) === undefined) await this.#lookAt(worker, connected.get(worker.workerId), now);
    }
    for (const platformId of new Set(store.workers().map((worker) => worker.platformId))) this.#keepWarm(platformId, connected);
    if (elapsed - this.#tidiedAt >= tidyMs) {
      this.#tidiedAt = elapsed;
      await this.#tidy();
    }
  }

  /** Where each worker runs, for who lists them; one request per platform. */
  async #lookForHosts(): Promise<void> {
    const { engines, store } = this.operations.parts;
    for (const platformId of new Set(store.workers().map((worker) => worker.platformId))) {
      try {
        for await (const page of engines.of(platformId).vms.pages({ search: 'tag=tidemark-worker', signal: this.#briefly(engineLookMs) })) {
          for (const vm of page) {
            if (vm.hostId === undefined) this.operations.hostIds.delete(vm.id);
            else if (store.hasVm(platformId, vm.id)) this.operations.hostIds.set(vm.id, vm.hostId);
          }
        }
      } catch (error) {
        // Nothing depends on it: the next look may be luckier.
        if (!isTidemarkError(error)) throw error;
      }
    }
  }

  async #run(): Promise<void> {
    const { patience, logger } = this.operations.parts;
    while (!this.#stop.signal.aborted) {
      try {
        await this.look();
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        logger.error('looking after worker VMs failed', { error });
      }
      await patience.clock.sleep(lookMs, this.#stop.signal).catch(() => undefined);
    }
  }

  async #lookAt(worker: StoredWorker, connected: ConnectedWorker | undefined, now: number): Promise<void> {
    const { workerId, phase } = worker;
    if (phase === 'removing') return this.#launch(worker, () => this.operations.remove(workerId, true));
    if (phase === 'starting' || phase === 'stopping') return this.#launch(worker, () => this.operations.settleInterrupted(workerId));
    if (worker.formerVmIds.length > 0) return this.#launch(worker, () => this.operations.finishReplacement(workerId));
    if (phase === 'lost') {
      if (isDue(worker.retryAt, now)) this.supply.launch(workerId, () => this.operations.bringUp(workerId));
      return;
    }
    if (phase === 'ready') {
      if (!connected) return await this.#lookForLost(worker);
      if (connected.stuck && connected.usedSlots === 0) return await this.#lost(worker, 'it lost a task while it went on reporting');
      if (this.#isIdle(worker, connected)) {
        return this.supply.launch(workerId, () => this.operations.stop(workerId, { force: false, onlyIfIdle: true }));
      }
    }
    await this.#updates.look(worker, connected, () => this.#briefly(3 * engineLookMs));
  }

  /** With the pause between two tries that its failure asks for. */
  #launch(worker: StoredWorker, start: () => ReturnType<WorkerOperations['stop']>): void {
    const now = this.#elapsed();
    const last = this.#asked.get(worker.workerId);
    if (last !== undefined && now - last < 30_000) return;
    this.#asked.set(worker.workerId, now);
    this.supply.launch(worker.workerId, start);
  }

  async #lookForLost(worker: StoredWorker): Promise<void> {
    const { engines, limits } = this.operations.parts;
    if (this.#awayMs(worker.workerId) < Math.min(suspiciousMs, limits.lostMs)) return;
    let status: string | undefined;
    try {
      const vm = await engines.of(worker.platformId).vms.find(worker.vmId, { signal: this.#briefly(engineLookMs) });
      status = vm ? (vm.status ?? 'unknown') : 'gone';
    } catch (error) {
      // The engine is away, and nothing could be started now.
      if (isTidemarkError(error)) return;
      throw error;
    }
    // The answer took its time: the worker may be back, or somebody may have begun something with it.
    if (!this.#isAsBefore(worker)) return;
    const silentMs = this.#awayMs(worker.workerId);
    if (silentMs < Math.min(suspiciousMs, limits.lostMs)) return;
    if (status === 'gone') return await this.#lost(worker, 'its VM is gone');
    if (status === 'down') return await this.#lost(worker, 'its VM is down');
    if (silentMs >= limits.lostMs)
      await this.#lost(worker, `it has not reported for ${Math.round(silentMs / 1000)} s, while its VM is ${status}`);
  }

  /** Asked of the worker itself: from look to look a busy engine may keep us for longer than a worker may be silent. */
  #awayMs(workerId: string): number {
    const now = this.#elapsed();
    return this.operations.parts.workers.awayMs(workerId) ?? now - (this.#beganAt ?? now);
  }

  #isAsBefore({ workerId, vmId, phase }: StoredWorker): boolean {
    const now = this.operations.parts.store.find(workerId);
    return now?.vmId === vmId && now.phase === phase && this.operations.ownerOf(workerId) === undefined;
  }

  async #lost(worker: StoredWorker, why: string): Promise<void> {
    const { store, workers } = this.operations.parts;
    workers.abandon(worker.workerId);
    await store.update(worker.workerId, { phase: 'lost', retryAt: 0 });
    report(
      this.operations.parts,
      'warning',
      workerEvents.lost,
      `Worker "${worker.name}" was lost: ${why}. Its tasks are tried elsewhere; it is started again.`,
      worker,
    );
    this.supply.launch(worker.workerId, () => this.operations.bringUp(worker.workerId));
  }

  #isIdle(worker: StoredWorker, connected: ConnectedWorker): boolean {
    const { store } = this.operations.parts;
    const { platformId, clusterId } = worker;
    const { stopIdleAfterMs, warmWorkers } = store.policy(platformId);
    if (connected.usedSlots > 0 || connected.idleMs === undefined || connected.idleMs < stopIdleAfterMs) return false;
    if (this.#needs.some((need) => need.platformId === platformId && need.clusterId === clusterId)) return false;
    const running = store.inCluster(platformId, clusterId).filter((one) => ['ready', 'starting'].includes(one.phase));
    return running.length > warmWorkers;
  }

  #keepWarm(platformId: string, connected: ReadonlyMap<string, ConnectedWorker>): void {
    const { store } = this.operations.parts;
    const { warmWorkers } = store.policy(platformId);
    if (warmWorkers === 0) return;
    const ofPlatform = store.workers().filter((worker) => worker.platformId === platformId);
    for (const clusterId of new Set(ofPlatform.map((worker) => worker.clusterId))) {
      const here = ofPlatform.filter((worker) => worker.clusterId === clusterId && !worker.drained);
      const running = here.filter((one) => one.phase === 'ready' || one.phase === 'lost' || connected.has(one.workerId));
      const coming = here.filter((one) => this.operations.activityOf(one.workerId) === 'starting' && !running.includes(one));
      const missing = warmWorkers - running.length - coming.length;
      const startable = here.filter((one) => ['stopped', 'failed'].includes(one.phase) && isDue(one.retryAt, this.#now()));
      for (const worker of startable.slice(0, Math.max(0, missing))) {
        this.supply.launch(worker.workerId, () => this.operations.bringUp(worker.workerId));
      }
    }
  }

  #serveNeeds(now: number): void {
    const { store } = this.operations.parts;
    // Kept until the idle time after the moment: work that is late finds them running.
    this.#needs = this.#needs.filter((need) => now < need.neededAt + store.policy(need.platformId).stopIdleAfterMs);
    for (const need of this.#needs) {
      const { platformId, clusterId, neededAt } = need;
      if (need.met || now < neededAt - startAheadMs) continue;
      need.met = store.inCluster(platformId, clusterId).some((worker) => worker.phase === 'ready' && !worker.drained);
      if (!need.met) this.supply.want({ platformId, clusterId });
    }
  }

  async #tidy(): Promise<void> {
    const { engines, images, disks, store } = this.operations.parts;
    for (const platformId of engines.platformIds()) {
      try {
        if (!images.latest && store.workers().length === 0) continue;
        await disks.tidy(engines.of(platformId), platformId, images.latest?.version, this.#briefly(3 * engineLookMs));
      } catch (error) {
        // An engine that is away is looked at the next time.
        if (!isTidemarkError(error)) throw error;
      }
    }
  }

  /** An engine that hangs must not keep us from the workers of the others. */
  #briefly(timeoutMs: number): AbortSignal {
    return AbortSignal.any([this.#stop.signal, AbortSignal.timeout(timeoutMs)]);
  }

  #now(): number {
    return this.operations.parts.patience.clock.now();
  }

  #elapsed(): number {
    return this.operations.parts.patience.clock.elapsed();
  }
}
