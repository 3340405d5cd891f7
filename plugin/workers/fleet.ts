/**
 * The workers that have dialled in, and the disk tasks they run for us. Owns who is connected, slots, and what happens to a task when its
 * worker comes back, restarts or is lost. Knows nothing of oVirt; the contract is proto/tidemark/worker/v1.
 */
import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { failureError } from '../../common/rpc/failure-message';
import type { ConnectRequest__Output } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import type { ConnectResponse } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import type { Hello__Output } from '../../proto/gen/tidemark/worker/v1/Hello';
import type { TaskResult__Output } from '../../proto/gen/tidemark/worker/v1/TaskResult';
import { noBytes } from '../operations/events';
import { countersFromWire } from './counters';
import { slotKey } from './slots';
import type { DiskTask, ImagePath, Placement, TaskOutcome, TaskProgressReport } from './tasks';
import { WorkerErrors } from './worker-errors';
import { WorkerSession } from './worker-session';

export interface FleetTiming {
  readonly heartbeatMs: number;
  /** How long a task outlives its worker's stream. */
  readonly reconnectMs: number;
  /** A worker answers a cancel within 10 s; beyond this the task counts as cancelled without it. */
  readonly cancelMs: number;
  /** How long a worker that is gone stays in the list. */
  readonly forgetMs: number;
}

export const defaultFleetTiming: FleetTiming = { heartbeatMs: 5000, reconnectMs: 15_000, cancelMs: 10_000, forgetMs: 24 * 3_600_000 };

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

export interface RunningTask {
  readonly taskId: string;
  readonly workerId: string;
  readonly done: Promise<TaskOutcome>;
}

interface Task {
  readonly taskId: string;
  readonly start: ConnectResponse;
  readonly progress: (report: TaskProgressReport) => void;
  readonly settle: (outcome: TaskOutcome) => void;
  cancelled: boolean;
}

interface Member {
  readonly workerId: string;
  hello: Hello__Output;
  session: WorkerSession | undefined;
  drain: 'no' | 'draining' | 'drained';
  residentMemoryBytes: number;
  lastSeenAt: number;
  lostTimer: NodeJS.Timeout | undefined;
  readonly tasks: Map<string, Task>;
  reserved: number;
}

export const workerProtocol = 'tidemark.worker.v1';
const maxSlots = 64;

export class Fleet {
  readonly #members = new Map<string, Member>();
  readonly #changed = new Set<() => void>();

  constructor(
    private readonly logger: Logger,
    private readonly timing: FleetTiming = defaultFleetTiming,
    private readonly now: () => number = Date.now,
  ) {}

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

  list(): WorkerView[] {
    const forgotten = this.now() - this.timing.forgetMs;
    for (const member of this.#members.values()) {
      if (!member.session && member.tasks.size === 0 && member.lastSeenAt < forgotten) this.#members.delete(member.workerId);
    }
    return [...this.#members.values()].map((member) => ({
      workerId: member.workerId,
      hostName: member.hello.process?.hostName ?? '',
      version: member.hello.process?.version ?? '',
      platformId: member.hello.platformId,
      clusterId: member.hello.clusterId,
      state: stateOf(member),
      taskSlots: member.hello.taskSlots,
      runningTasks: member.tasks.size,
      residentMemoryBytes: member.residentMemoryBytes,
      lastSeenAt: member.session ? this.now() : member.lastSeenAt,
    }));
  }

  /** No new tasks for a worker. Idempotent. Throws WORKER_NOT_FOUND. */
  drain(workerId: string): void {
    const member = this.#members.get(workerId);
    if (!member) throw WorkerErrors.WORKER_NOT_FOUND({ workerId });
    if (member.drain !== 'no') return;
    member.drain = 'draining';
    member.session?.send({ drain: {} });
  }

  /**
   * The best worker with a free slot, which is then taken until {@link release}; `slots` when all are taken, `none` when there is no
   * worker that may do it. Order: same cluster, any cluster of the platform, beside the server (product defaults §1).
   */
  reserve(placement: Placement): { workerId: string } | 'slots' | 'none' {
    const usable = [...this.#members.values()].filter((m) => m.session && m.drain === 'no' && slotKey(placement, m.hello) !== undefined);
    if (usable.length === 0) return 'none';
    const free = usable.filter((m) => this.#used(m) < m.hello.taskSlots);
    free.sort((a, b) => (slotKey(placement, a.hello) ?? 0) - (slotKey(placement, b.hello) ?? 0) || this.#used(a) - this.#used(b));
    const best = free[0];
    if (!best) return 'slots';
    best.reserved += 1;
    return { workerId: best.workerId };
  }

  /** True while a reserved slot's worker could start a task now. */
  isUsable(workerId: string): boolean {
    return this.#members.get(workerId)?.session !== undefined;
  }

  release(workerId: string): void {
    const member = this.#members.get(workerId);
    if (member && member.reserved > 0) member.reserved -= 1;
    this.#notify();
  }

  /** Starts a task on a worker whose slot the caller holds. Aborting the signal cancels it; `done` never rejects. */
  run(
    workerId: string,
    task: DiskTask,
    options: { correlationId: string; signal: AbortSignal; progress(report: TaskProgressReport): void },
  ): RunningTask {
    const taskId = randomUUID();
    const member = this.#members.get(workerId);
    const done = new Promise<TaskOutcome>((resolve) => {
      if (!member?.session) return resolve(failed(WorkerErrors.WORKER_LOST({ workerId, taskId })));
      if (options.signal.aborted) return resolve(failed(CommonErrors.CANCELLED({ what: `task ${taskId}` })));
      let cancelTimer: NodeJS.Timeout | undefined;
      const cancel = () => {
        const known = member.tasks.get(taskId);
        if (!known) return;
        known.cancelled = true;
        member.session?.send({ cancelTask: { taskId } });
        cancelTimer = setTimeout(() => known.settle(failed(CommonErrors.CANCELLED({ what: `task ${taskId}` }))), this.timing.cancelMs);
      };
      const entry: Task = {
        taskId,
        start: { startTask: { taskId, correlationId: options.correlationId, ...task } },
        progress: (report) => options.progress(report),
        settle: (outcome) => {
          if (!member.tasks.delete(taskId)) return;
          clearTimeout(cancelTimer);
          options.signal.removeEventListener('abort', cancel);
          resolve(outcome);
          this.#notify();
        },
        cancelled: false,
      };
      member.tasks.set(taskId, entry);
      options.signal.addEventListener('abort', cancel, { once: true });
      member.session.send(entry.start);
    });
    return { taskId, workerId, done };
  }

  /** Called when a slot may have become free or a worker came; returns the way to stop. */
  onChanged(listener: () => void): () => void {
    this.#changed.add(listener);
    return () => this.#changed.delete(listener);
  }

  /** Cuts all streams; workers dial again. */
  stop(): void {
    for (const member of this.#members.values()) {
      member.session?.close();
      clearTimeout(member.lostTimer);
    }
  }

  #admit(workerId: string, hello: Hello__Output): WorkerSession {
    const bounded: Hello__Output = { ...hello, taskSlots: Math.max(1, Math.min(maxSlots, hello.taskSlots)) };
    const known = this.#members.get(workerId);
    const restarted = known !== undefined && known.hello.process?.bootId !== hello.process?.bootId;
    const member: Member = known ?? {
      workerId,
      hello: bounded,
      session: undefined,
      drain: 'no',
      residentMemoryBytes: 0,
      lastSeenAt: this.now(),
      lostTimer: undefined,
      tasks: new Map(),
      reserved: 0,
    };
    this.#members.set(workerId, member);
    const previous = member.session;
    member.session = undefined;
    previous?.close();
    clearTimeout(member.lostTimer);
    member.hello = bounded;
    member.lastSeenAt = this.now();
    if (restarted) member.drain = 'no';
    const session = new WorkerSession(bounded, this.timing.heartbeatMs, {
      message: (request) => this.#receive(member, request),
      closed: (silent) => this.#closed(member, session, silent),
    });
    member.session = session;
    if (member.drain !== 'no') session.send({ drain: {} });
    this.#reconcile(member, session, new Set(hello.taskIds), restarted);
    this.logger.info('worker connected', {
      workerId,
      hostName: hello.process?.hostName,
      taskSlots: bounded.taskSlots,
      tasks: member.tasks.size,
    });
    this.#notify();
    return session;
  }

  /** After a break: tasks that the worker no longer has are sent again or lost, tasks that we no longer want are cancelled. */
  #reconcile(member: Member, session: WorkerSession, running: ReadonlySet<string>, restarted: boolean): void {
    for (const taskId of running) {
      const task = member.tasks.get(taskId);
      if (!task || task.cancelled) session.send({ cancelTask: { taskId } });
    }
    for (const task of [...member.tasks.values()]) {
      if (running.has(task.taskId)) continue;
      if (restarted) task.settle(failed(WorkerErrors.WORKER_LOST({ workerId: member.workerId, taskId: task.taskId })));
      else if (task.cancelled) task.settle(failed(CommonErrors.CANCELLED({ what: `task ${task.taskId}` })));
      else session.send(task.start);
    }
  }

  #receive(member: Member, request: ConnectRequest__Output): void {
    member.lastSeenAt = this.now();
    if (request.heartbeat) member.residentMemoryBytes = Number(request.heartbeat.residentMemoryBytes);
    else if (request.progress) {
      const { taskId, counters, totalBytes } = request.progress;
      member.tasks.get(taskId)?.progress({ counters: countersFromWire(counters), totalBytes: Number(totalBytes) });
    } else if (request.result) {
      // Results live in this process's memory and in the flow that waits; a result nobody waits for must still be let go by the worker.
      member.tasks.get(request.result.taskId)?.settle(outcomeOf(request.result));
      member.session?.send({ resultStored: { taskId: request.result.taskId } });
    } else if (request.drained) {
      if (member.drain === 'draining') member.drain = 'drained';
    }
  }

  #closed(member: Member, session: WorkerSession, silent: boolean): void {
    if (member.session !== session) return;
    member.session = undefined;
    this.logger.warn('worker stream ended', { workerId: member.workerId, silent, tasks: member.tasks.size });
    const lose = () => {
      for (const task of [...member.tasks.values()]) {
        task.settle(failed(WorkerErrors.WORKER_LOST({ workerId: member.workerId, taskId: task.taskId })));
      }
    };
    if (silent) lose();
    else member.lostTimer = setTimeout(lose, this.timing.reconnectMs);
    this.#notify();
  }

  #used(member: Member): number {
    return member.reserved;
  }

  #notify(): void {
    for (const listener of [...this.#changed]) listener();
  }
}

function stateOf(member: Member): WorkerState {
  if (!member.session) return 'lost';
  if (member.drain === 'no') return 'connected';
  return member.drain;
}

const imagePaths: Partial<Record<string, ImagePath>> = {
  IMAGE_PATH_DIRECT: 'direct',
  IMAGE_PATH_PROXY: 'proxy',
  IMAGE_PATH_LOCAL: 'local',
};

function outcomeOf(result: TaskResult__Output): TaskOutcome {
  return {
    ...(result.failure ? { failure: failureError(result.failure) } : {}),
    counters: countersFromWire(result.counters),
    imagePath: imagePaths[result.imagePath] ?? 'unknown',
    imagePathReason: result.imagePathReason,
  };
}

function failed(failure: TidemarkError): TaskOutcome {
  return { failure, counters: noBytes, imagePath: 'unknown', imagePathReason: '' };
}
