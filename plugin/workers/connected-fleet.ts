/**
 * The workers that have dialled in, and what they do for us. Owns who is connected, slots, and what happens to a task when its worker comes
 * back, restarts, is lost or stuck. Knows nothing of oVirt; the contract is proto/tidemark/worker/v1. What a worker of an older version
 * cannot do is asked of it only when its Hello names the capability.
 */
import { CommonErrors } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { ConnectRequest__Output } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import type { ConnectResponse } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import type { Hello__Output } from '../../proto/gen/tidemark/worker/v1/Hello';
import type { SelfTestTarget } from '../../proto/gen/tidemark/worker/v1/SelfTestTarget';
import { systemClock } from '../operations/clock';
import type { Clock } from '../operations/clock';
import { DataPaths } from './data-paths';
import { Member } from './member';
import type { WorkerView } from './member';
import type { ConnectedWorker, ConnectedWorkers } from './ports';
import type { DiskTask, TaskOutcome } from './tasks';
import { defaultFleetTiming } from './timing';
import type { FleetTiming } from './timing';
import { WorkerErrors } from './worker-errors';
import type { WorkerSession } from './worker-session';
import type { RunOptions } from './worker-tasks';

/** A worker that takes tasks now. */
export interface TaskTaker {
  readonly workerId: string;
  /** As it says itself; both empty beside the server. */
  readonly platformId: string;
  readonly clusterId: string;
  readonly usedSlots: number;
  readonly freeSlots: number;
  readonly stuck: boolean;
  can(capability: string): boolean;
}

/** A slot of one worker. */
export interface WorkerSlot {
  readonly workerId: string;
  /** True while the worker could start a task now. */
  isUsable(): boolean;
  /** Never rejects: failures are outcomes. */
  run(task: DiskTask, options: RunOptions): Promise<TaskOutcome>;
  /** Idempotent. */
  release(): void;
}

export const workerProtocol = 'tidemark.worker.v1';

export class ConnectedFleet implements ConnectedWorkers {
  readonly #members = new Map<string, Member>();
  readonly #changed = new Set<() => void>();
  readonly #paths = new DataPaths();
  readonly #openedAt: number;

  constructor(
    private readonly logger: Logger,
    private readonly timing: FleetTiming = defaultFleetTiming,
    private readonly clock: Pick<Clock, 'now' | 'elapsed'> = systemClock,
  ) {
    this.#openedAt = clock.elapsed();
  }

  /**
   * A worker's stream: the first message must be Hello. Returns what to send down; its end closes the stream.
   * Throws WORKER_PROTOCOL_BROKEN, CAPABILITY_MISSING.
   */
  async *connect(workerId: string, requests: AsyncIterable<ConnectRequest__Output>): AsyncGenerator<ConnectResponse> {
    const iterator = requests[Symbol.asyncIterator]();
    const first = await iterator.next();
    const hello = first.done === true ? undefined : first.value.hello;
    if (!hello) throw WorkerErrors.WORKER_PROTOCOL_BROKEN({ problem: 'its first message was not Hello' });
    const protocols = hello.process?.protocols ?? [];
    if (!protocols.includes(workerProtocol)) {
      throw CommonErrors.CAPABILITY_MISSING({ needed: workerProtocol, offered: protocols.join(', ') || 'nothing' });
    }
    const session = this.#admit(workerId, hello);
    void session.receive(iterator);
    try {
      yield* session.replies();
    } finally {
      session.close();
    }
  }

  /** All workers that were seen lately, those that are lost included. */
  list(): WorkerView[] {
    const forgotten = this.clock.elapsed() - this.timing.forgetMs;
    for (const member of this.#members.values()) if (member.isForgettable(forgotten)) this.#members.delete(member.workerId);
    return [...this.#members.values()].map((member) => member.view());
  }

  connected(): readonly ConnectedWorker[] {
    return [...this.#members.values()].filter((member) => member.isConnected).map((member) => member.connected());
  }

  awayMs(workerId: string): number | undefined {
    return this.#members.get(workerId)?.awayMs;
  }

  get openMs(): number {
    return this.clock.elapsed() - this.#openedAt;
  }

  usedSlots(workerId: string): number {
    return this.#members.get(workerId)?.usedSlots ?? 0;
  }

  drain(workerId: string): void {
    this.#get(workerId).drain();
  }

  resume(workerId: string): void {
    this.#get(workerId).resume();
  }

  abandon(workerId: string): void {
    this.#members.get(workerId)?.abandon();
  }

  forget(workerId: string): void {
    const member = this.#members.get(workerId);
    if (!this.#members.delete(workerId)) return;
    member?.abandon();
    this.#notify();
  }

  async selfTest(workerId: string, targets: readonly SelfTestTarget[], signal: AbortSignal): Promise<SelfTest__Output> {
    const member = this.#members.get(workerId);
    if (!member) throw WorkerErrors.WORKER_LOST({ workerId, during: 'a self-test not yet begun' });
    return await member.selfTest(targets, signal);
  }

  updateTrust(workerId: string, update: { readonly trustBundlePem: string; readonly renewCertificate: boolean }): void {
    this.#members.get(workerId)?.updateTrust(update);
  }

  /** Another mover has the session of this path: tasks that use it change over, those to come begin there. */
  changeDataPath(path: DataPath): void {
    this.#paths.change(path);
    for (const member of this.#members.values()) member.changeDataPath(path);
  }

  /** No operation uses the mover session any more. */
  forgetDataPath(sessionId: string): void {
    this.#paths.forget(sessionId);
  }

  onChanged(listener: () => void): () => void {
    this.#changed.add(listener);
    return () => this.#changed.delete(listener);
  }

  /** Workers that have a stream and are not being drained, with and without a free slot. */
  takers(): TaskTaker[] {
    return [...this.#members.values()]
      .filter((member) => member.isConnected && !member.isDraining)
      .map((member) => ({
        workerId: member.workerId,
        ...{ platformId: member.place.platformId, clusterId: member.place.clusterId },
        usedSlots: member.usedSlots,
        freeSlots: member.freeSlots,
        stuck: member.isStuck,
        can: (capability) => member.can(capability),
      }));
  }

  /** Takes a slot of a worker of {@link takers}. Throws WORKER_NOT_FOUND. */
  take(workerId: string): WorkerSlot {
    const member = this.#get(workerId);
    const release = member.take();
    this.#notify();
    return { workerId, isUsable: () => member.isConnected, run: (task, options) => member.run(task, options), release };
  }

  /** Cuts all streams; workers dial again. */
  stop(): void {
    for (const member of this.#members.values()) member.disconnect();
  }

  #admit(workerId: string, hello: Hello__Output): WorkerSession {
    let member = this.#members.get(workerId);
    if (!member) {
      const { logger, timing, clock } = this;
      member = new Member(workerId, hello, { logger, timing, clock, paths: this.#paths, changed: () => this.#notify() });
      this.#members.set(workerId, member);
    }
    const session = member.connect(hello);
    const { hostName, version, taskSlots, runningTasks } = member.view();
    this.logger.info('worker connected', { workerId, hostName, version, taskSlots, tasks: runningTasks });
    this.#notify();
    return session;
  }

  #get(workerId: string): Member {
    const member = this.#members.get(workerId);
    if (!member) throw WorkerErrors.WORKER_NOT_FOUND({ workerId });
    return member;
  }

  #notify(): void {
    for (const listener of [...this.#changed]) listener();
  }
}
