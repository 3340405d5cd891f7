import { toTidemarkError } from '../../common/errors/common-errors';
import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { withCorrelation } from '../../common/log/correlation';
import { failureMessage } from '../../common/rpc/failure-message';
import type { DataPath__Output } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { TaskProgress } from '../../proto/gen/tidemark/worker/v1/TaskProgress';
import type { TaskResult } from '../../proto/gen/tidemark/worker/v1/TaskResult';
import type { StartTask__Output } from '../../proto/gen/tidemark/worker/v1/StartTask';
import { WorkerErrors } from '../errors/worker-errors';
import type { MoverAddress } from '../mover-client/dial-mover';
import { MoverRoute } from '../mover-client/mover-route';
import { SharedCounters } from '../pipeline/counters';
import type { DeviceTree } from '../attached-disks/device-tree';
import type { DiskTask, TaskContext, TaskOutcome } from './disk-task';

interface RunningTask {
  readonly aborter: AbortController;
  readonly counters: SharedCounters;
  readonly totalBytes: number;
  readonly outcome: TaskOutcome;
  readonly route: MoverRoute;
}

/** How a task is turned into work; wired by the composition root. */
export interface TaskWork {
  read(start: StartTask__Output): DiskTask;
  /** Throws ARGUMENT_INVALID. */
  readDataPath(dataPath: DataPath__Output | null): MoverAddress;
  run(task: DiskTask, context: TaskContext): Promise<void>;
  readonly devices: DeviceTree;
}

/**
 * The tasks of this worker: running ones, and finished ones until the plug-in has stored their result. Survives the connection to the plug-in, so
 * that a broken stream costs no work.
 */
export class TaskRegistry {
  private readonly running = new Map<string, RunningTask>();
  private readonly results = new Map<string, TaskResult>();
  /** Called with each result as it comes to be. */
  onResult: (result: TaskResult) => void = () => undefined;

  constructor(
    private readonly work: TaskWork,
    private readonly slots: number,
    private readonly logger: Logger,
  ) {}

  /** Ids of tasks that run or whose result is not stored yet. */
  get taskIds(): string[] {
    return [...this.running.keys(), ...this.results.keys()];
  }

  get runningCount(): number {
    return this.running.size;
  }

  get unstoredResults(): TaskResult[] {
    return [...this.results.values()];
  }

  /** Starts a task; a running one is left alone, a finished one answers its result again. Never throws: failures are results. */
  start(start: StartTask__Output, accepting: boolean): void {
    const { taskId } = start;
    if (this.running.has(taskId)) return;
    const known = this.results.get(taskId);
    if (known) return this.onResult(known);
    const counters = new SharedCounters();
    const outcome: TaskOutcome = { imagePath: 'IMAGE_PATH_UNSPECIFIED', imagePathReason: '', indexRoot: Buffer.alloc(0) };
    const correlationId = start.correlationId === '' ? taskId : start.correlationId;
    void withCorrelation({ correlationId, taskId }, async () => {
      let failure: TidemarkError | undefined;
      try {
        if (!accepting || this.running.size >= this.slots)
          throw WorkerErrors.WORKER_SLOTS_TAKEN({ slots: this.slots }, { retryDelayMs: 2_000 });
        const task = this.work.read(start);
        const aborter = new AbortController();
        const route = new MoverRoute();
        this.running.set(taskId, { aborter, counters, totalBytes: totalOf(task), outcome, route });
        this.logger.info('task started', { kind: task.kind, diskId: task.diskId });
        await this.work.run(task, { taskId, route, counters, signal: aborter.signal, outcome, devices: this.work.devices });
      } catch (thrown) {
        failure = toTidemarkError(thrown, 'the disk task');
        failure.correlationId ??= correlationId;
      }
      if (failure) this.logger.warn('task failed', { code: failure.code, message: failure.message, error: failure });
      else this.logger.info('task finished', { ...counters.toWire() });
      this.running.delete(taskId);
      this.finish({
        taskId,
        ...(failure ? { failure: failureMessage(failure) } : {}),
        counters: counters.toWire(),
        imagePath: outcome.imagePath,
        imagePathReason: outcome.imagePathReason,
        indexRoot: Buffer.from(outcome.indexRoot),
      });
    });
  }

  /** Stops a task; its result follows. An unknown one is answered at once, a finished one with what it came to. */
  cancel(taskId: string): void {
    const task = this.running.get(taskId);
    if (task) return task.aborter.abort();
    const known = this.results.get(taskId);
    if (known) return this.onResult(known);
    this.finish({ taskId, failure: failureMessage(CommonErrors.CANCELLED({ what: 'an unknown task' })) });
  }

  /** The session of a running task is served by another mover, or has a new ticket; other tasks are passed over. */
  changeDataPath(taskId: string, dataPath: DataPath__Output | null): void {
    const task = this.running.get(taskId);
    if (!task) return;
    try {
      task.route.change(this.work.readDataPath(dataPath));
      this.logger.info('task has a new data path', { taskId, endpoints: dataPath?.endpoints });
    } catch (error) {
      // It stays with the mover that it has, and fails in the end if that is gone.
      this.logger.warn('a new data path cannot be used', { taskId, error });
    }
  }

  cancelAll(): void {
    for (const task of this.running.values()) task.aborter.abort();
  }

  /** The plug-in has the result. */
  forget(taskId: string): void {
    this.results.delete(taskId);
  }

  progress(): TaskProgress[] {
    return [...this.running].map(([taskId, task]) => ({
      taskId,
      counters: task.counters.toWire(),
      totalBytes: String(task.totalBytes),
    }));
  }

  private finish(result: TaskResult): void {
    this.results.set(result.taskId as string, result);
    this.onResult(result);
  }
}

function totalOf(task: DiskTask): number {
  if (task.kind === 'restore') {
    const { target } = task;
    if (target.kind === 'file') return 0;
    return target.kind === 'image' ? target.transfer.sizeBytes : target.sizeBytes;
  }
  return task.source.kind === 'image' ? task.source.transfer.sizeBytes : task.source.sizeBytes;
}
