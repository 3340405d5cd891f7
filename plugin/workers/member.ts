import { CommonErrors } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import type { Clock } from '../operations/clock';
import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { TrustState__Output } from '../../proto/gen/tidemark/common/v1/TrustState';
import type { ConnectRequest__Output } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import type { ConnectResponse } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import type { Hello__Output } from '../../proto/gen/tidemark/worker/v1/Hello';
import type { SelfTestTarget } from '../../proto/gen/tidemark/worker/v1/SelfTestTarget';
import type { DataPaths } from './data-paths';
import type { ConnectedWorker } from './ports';
import { SelfTests } from './self-tests';
import type { DiskTask, TaskOutcome } from './tasks';
import type { FleetTiming } from './timing';
import { WorkerErrors } from './worker-errors';
import { WorkerLog } from './worker-log';
import { WorkerSession } from './worker-session';
import { WorkerTasks, failed } from './worker-tasks';
import type { RunOptions } from './worker-tasks';

export type WorkerState = 'connected' | 'lost' | 'draining' | 'drained';

/** A worker as it is listed. */
export interface WorkerView {
  readonly workerId: string;
  readonly hostName: string;
  readonly version: string;
  readonly platformId: string;
  readonly clusterId: string;
  readonly state: WorkerState;
  readonly taskSlots: number;
  readonly runningTasks: number;
  readonly residentMemoryBytes: number;
  readonly lastSeenAt: number;
}

export interface MemberSurroundings {
  readonly logger: Logger;
  readonly timing: FleetTiming;
  readonly clock: Pick<Clock, 'now' | 'elapsed'>;
  readonly paths: DataPaths;
  changed(): void;
}

const maxSlots = 64;
/** A worker's own words about itself are bounded. */
const maxListed = 64;

/** One worker over all its connections: its stream now, its slots, tasks, self-tests and drain. */
export class Member {
  #session: WorkerSession | undefined;
  #draining = false;
  #drainTold = false;
  #stuck = false;
  #used = 0;
  #idleSinceMs: number;
  #residentMemoryBytes = 0;
  /** Milliseconds since the epoch, for who lists it; and of the time that is measured. */
  #lastSeenAt = 0;
  #lastSeenMs = 0;
  /** When its last stream ended, of the time that is measured. */
  #awaySinceMs = 0;
  #trust: TrustState__Output | undefined;
  /** Set while it is expected to dial again. */
  #lostTimer: NodeJS.Timeout | undefined;
  readonly #tasks: WorkerTasks;
  readonly #tests: SelfTests;
  readonly #log: WorkerLog;

  constructor(
    readonly workerId: string,
    private hello: Hello__Output,
    private readonly around: MemberSurroundings,
  ) {
    const { timing, logger, clock } = around;
    const now = () => clock.now();
    const send = (message: ConnectResponse) => this.#session?.send(message);
    this.#seen();
    this.#idleSinceMs = clock.elapsed();
    this.#tasks = new WorkerTasks(
      workerId,
      timing,
      () => clock.elapsed(),
      send,
      around.paths,
      (capability) => this.can(capability),
    );
    this.#tests = new SelfTests(workerId, timing.selfTestMs, now, send);
    this.#log = new WorkerLog(workerId, logger, now);
  }

  get isConnected(): boolean {
    return this.#session !== undefined;
  }

  /** For how long it has had no stream; 0 while it has one. */
  get awayMs(): number {
    return this.#session ? 0 : this.around.clock.elapsed() - this.#awaySinceMs;
  }

  get isDraining(): boolean {
    return this.#draining;
  }

  get isStuck(): boolean {
    return this.#stuck;
  }

  /** Nothing of it is left to remember. */
  isForgettable(beforeMs: number): boolean {
    return !this.#session && this.#tasks.size === 0 && this.#used === 0 && this.#lastSeenMs < beforeMs;
  }

  get usedSlots(): number {
    return this.#used;
  }

  get freeSlots(): number {
    return Math.max(0, this.#slots - this.#used);
  }

  get place(): { readonly platformId: string; readonly clusterId: string } {
    return this.hello;
  }

  can(capability: string): boolean {
    return this.hello.process?.capabilities.includes(capability) ?? false;
  }

  /** Takes a slot; the answer gives it back, once. */
  take(): () => void {
    this.#used += 1;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#used -= 1;
      if (this.#used === 0) this.#idleSinceMs = this.around.clock.elapsed();
      this.#tellDrain();
      this.around.changed();
    };
  }

  async run(task: DiskTask, options: RunOptions): Promise<TaskOutcome> {
    if (this.#isGone) return failed(WorkerErrors.WORKER_LOST({ workerId: this.workerId, during: 'a task not yet begun' }));
    const outcome = await this.#tasks.run(task, options);
    this.#tellDrain();
    this.around.changed();
    return outcome;
  }

  changeDataPath(path: DataPath): void {
    this.#tasks.changeDataPath(path);
  }

  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#tellDrain();
    this.around.changed();
  }

  resume(): void {
    if (!this.#draining) return;
    this.#draining = false;
    if (this.#drainTold) this.#session?.send({ resume: {} });
    this.#drainTold = false;
    this.around.changed();
  }

  /** Loses its tasks and self-tests at once and cuts its stream. */
  abandon(): void {
    this.disconnect();
    this.#loseAll();
  }

  async selfTest(targets: readonly SelfTestTarget[], signal: AbortSignal): Promise<SelfTest__Output> {
    if (this.#isGone) throw WorkerErrors.WORKER_LOST({ workerId: this.workerId, during: 'a self-test not yet begun' });
    this.#demand('self-test');
    return await this.#tests.run(targets, signal);
  }

  updateTrust(update: { readonly trustBundlePem: string; readonly renewCertificate: boolean }): void {
    if (this.can('trust-update')) this.#session?.send({ trustUpdate: { ...update } });
  }

  /** A new stream of the worker; an older one is closed. */
  connect(hello: Hello__Output): WorkerSession {
    const restarted = this.hello.process?.bootId !== hello.process?.bootId;
    const previous = this.#session;
    this.#session = undefined;
    previous?.close();
    this.#expectNoMore();
    this.hello = { ...hello, addresses: hello.addresses.slice(0, maxListed) };
    this.#trust = hello.trust ?? undefined;
    this.#seen();
    if (restarted) {
      this.#stuck = false;
      this.#idleSinceMs = this.#lastSeenMs;
    }
    const session = new WorkerSession(this.around.timing.heartbeatMs, () => this.around.clock.now(), {
      message: (request) => this.#receive(request),
      closed: (silent) => this.#closed(session, silent),
    });
    this.#session = session;
    this.#drainTold = false;
    this.#tellDrain();
    this.#tasks.reconcile(new Set(hello.taskIds), restarted);
    this.#tests.reconcile(restarted);
    return session;
  }

  /** Cuts its stream; the worker dials again. */
  disconnect(): void {
    this.#session?.close();
    this.#expectNoMore();
  }

  view(): WorkerView {
    const { hello } = this;
    return {
      workerId: this.workerId,
      hostName: hello.process?.hostName ?? '',
      version: hello.process?.version ?? '',
      platformId: hello.platformId,
      clusterId: hello.clusterId,
      state: this.#state(),
      taskSlots: this.#slots,
      runningTasks: this.#tasks.size,
      residentMemoryBytes: this.#residentMemoryBytes,
      lastSeenAt: this.#session ? this.around.clock.now() : this.#lastSeenAt,
    };
  }

  connected(): ConnectedWorker {
    const { hello } = this;
    return {
      workerId: this.workerId,
      version: hello.process?.version ?? '',
      imageVersion: hello.imageVersion,
      capabilities: hello.process?.capabilities.slice(0, maxListed) ?? [],
      addresses: hello.addresses,
      runningTasks: this.#tasks.size,
      usedSlots: this.#used,
      drained: this.#isDrained(),
      stuck: this.#stuck,
      idleMs: this.#used === 0 ? this.around.clock.elapsed() - this.#idleSinceMs : undefined,
      trust: this.#trust,
    };
  }

  /**
   * It has no stream and is not expected back either. One that is begins what it is given when it has dialled again: streams are cut now and then, each
   * soon after the plug-in renewed its certificate for instance.
   */
  get #isGone(): boolean {
    return !this.#session && this.#lostTimer === undefined;
  }

  get #slots(): number {
    return Math.max(1, Math.min(maxSlots, this.hello.taskSlots));
  }

  #seen(): void {
    this.#lastSeenAt = this.around.clock.now();
    this.#lastSeenMs = this.around.clock.elapsed();
  }

  #receive(request: ConnectRequest__Output): void {
    this.#seen();
    if (request.heartbeat) this.#heartbeat(request.heartbeat);
    else if (request.progress) this.#tasks.progress(request.progress);
    else if (request.result) this.#tasks.result(request.result);
    else if (request.selfTestReport) this.#tests.report(request.selfTestReport);
    else if (request.logLines) this.#log.write(request.logLines);
    // Drained needs no answer: slots tell earlier and better when a worker has nothing to do.
  }

  #heartbeat({ residentMemoryBytes, trust }: NonNullable<ConnectRequest__Output['heartbeat']>): void {
    this.#residentMemoryBytes = Number(residentMemoryBytes);
    if (trust) this.#trust = trust;
    this.#log.turnMinute();
    const lost = this.#tasks.loseStuck();
    if (lost === 0) return;
    this.#stuck = true;
    this.around.logger.warn('worker lives, but tells nothing of tasks that it has; they are lost', { workerId: this.workerId, lost });
  }

  #closed(session: WorkerSession, silent: boolean): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    this.#awaySinceMs = this.around.clock.elapsed();
    this.around.logger.warn('worker stream ended', { workerId: this.workerId, silent, tasks: this.#tasks.size });
    if (silent) this.#loseAll();
    else this.#expectBack(this.around.timing.reconnectMs);
    this.around.changed();
  }

  /** Loses what it has when it is not back within the time. Time in which this process did not run is none: it could not have come back in it. */
  #expectBack(leftMs: number): void {
    this.#lostTimer = setTimeout(() => {
      const stillMs = this.around.timing.reconnectMs - this.awayMs;
      if (stillMs > 0) this.#expectBack(stillMs);
      else this.#loseAll();
    }, leftMs);
  }

  #expectNoMore(): void {
    clearTimeout(this.#lostTimer);
    this.#lostTimer = undefined;
  }

  #loseAll(): void {
    this.#expectNoMore();
    this.#tasks.loseAll();
    this.#tests.loseAll();
  }

  /**
   * A draining worker is told once no slot is in use: an operation that has one may still start tasks in it. Workers that could not be
   * told otherwise later are not told at all; they get no tasks, which comes to the same.
   */
  #tellDrain(): void {
    if (!this.#isDrained() || this.#drainTold || !this.#session || !this.can('resume')) return;
    this.#drainTold = true;
    this.#session.send({ drain: {} });
  }

  #isDrained(): boolean {
    return this.#draining && this.#used === 0 && this.#tasks.size === 0;
  }

  #state(): WorkerState {
    if (!this.#session) return 'lost';
    if (!this.#draining) return 'connected';
    return this.#isDrained() ? 'drained' : 'draining';
  }

  #demand(capability: string): void {
    if (this.can(capability)) return;
    throw CommonErrors.CAPABILITY_MISSING({ needed: capability, offered: this.hello.process?.capabilities.join(', ') || 'nothing' });
  }
}
