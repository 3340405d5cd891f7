import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { failureError } from '../../common/rpc/failure-message';
import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { ConnectResponse } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import type { TaskProgress__Output } from '../../proto/gen/tidemark/worker/v1/TaskProgress';
import type { TaskResult__Output } from '../../proto/gen/tidemark/worker/v1/TaskResult';
import { noBytes } from '../operations/events';
import { countersFromWire } from './counters';
import { dataPathOf, withDataPath } from './data-paths';
import type { DataPaths } from './data-paths';
import type { DiskTask, ImagePath, TaskOutcome, TaskProgressReport } from './tasks';
import type { FleetTiming } from './timing';
import { WorkerErrors } from './worker-errors';

export interface RunOptions {
  readonly correlationId: string;
  /** Aborting it cancels the task. */
  readonly signal: AbortSignal;
  progress(report: TaskProgressReport): void;
}

interface Task {
  readonly taskId: string;
  readonly correlationId: string;
  task: DiskTask;
  /** Its mover was replaced while it ran; the worker has to be told, after a break of the stream again. */
  newPath: DataPath | undefined;
  readonly progress: (report: TaskProgressReport) => void;
  readonly settle: (outcome: TaskOutcome) => void;
  cancelled: boolean;
  /** When the worker last told of it, or could begin to. */
  heardAt: number;
}

/** The tasks that one worker runs for us, over breaks of its stream. */
export class WorkerTasks {
  readonly #tasks = new Map<string, Task>();

  constructor(
    private readonly workerId: string,
    private readonly timing: Pick<FleetTiming, 'cancelMs' | 'stuckMs'>,
    private readonly elapsed: () => number,
    /** To the worker; without effect while it has no stream. */
    private readonly send: (message: ConnectResponse) => void,
    private readonly paths: DataPaths,
    /** What the worker says it can, now. */
    private readonly can: (capability: string) => boolean,
  ) {}

  get size(): number {
    return this.#tasks.size;
  }

  /** Starts a task on a worker that has a stream. Never rejects: failures are outcomes. */
  run(task: DiskTask, options: RunOptions): Promise<TaskOutcome> {
    const taskId = randomUUID();
    const cancelled = () => failed(CommonErrors.CANCELLED({ what: `task ${taskId}` }));
    if (options.signal.aborted) return Promise.resolve(cancelled());
    return new Promise((resolve) => {
      let cancelTimer: NodeJS.Timeout | undefined;
      const cancel = () => {
        const known = this.#tasks.get(taskId);
        if (!known) return;
        known.cancelled = true;
        this.send({ cancelTask: { taskId } });
        cancelTimer = setTimeout(() => known.settle(cancelled()), this.timing.cancelMs);
      };
      const entry: Task = {
        taskId,
        correlationId: options.correlationId,
        task: this.paths.applyTo(task),
        newPath: undefined,
        progress: (report) => options.progress(report),
        settle: (outcome) => {
          if (!this.#tasks.delete(taskId)) return;
          clearTimeout(cancelTimer);
          options.signal.removeEventListener('abort', cancel);
          resolve(outcome);
        },
        cancelled: false,
        heardAt: this.elapsed(),
      };
      this.#tasks.set(taskId, entry);
      options.signal.addEventListener('abort', cancel, { once: true });
      this.#start(entry);
    });
  }

  progress({ taskId, counters, totalBytes }: TaskProgress__Output): void {
    const task = this.#tasks.get(taskId);
    if (!task) return;
    task.heardAt = this.elapsed();
    task.progress({ counters: countersFromWire(counters), totalBytes: Number(totalBytes) });
  }

  /** Results live in this process's memory and in the flow that waits; one that nobody waits for must still be let go by the worker. */
  result(result: TaskResult__Output): void {
    this.#tasks.get(result.taskId)?.settle(outcomeOf(result));
    this.send({ resultStored: { taskId: result.taskId } });
  }

  /** After a break: tasks that the worker no longer has are sent again or lost, tasks that we no longer want are cancelled. */
  reconcile(running: ReadonlySet<string>, restarted: boolean): void {
    for (const taskId of running) {
      const task = this.#tasks.get(taskId);
      if (!task || task.cancelled) this.send({ cancelTask: { taskId } });
    }
    for (const task of [...this.#tasks.values()]) {
      task.heardAt = this.elapsed();
      if (running.has(task.taskId)) {
        if (task.newPath && !task.cancelled) this.#tellPath(task, task.newPath);
        continue;
      }
      if (restarted) task.settle(this.#lost(task));
      else if (task.cancelled) task.settle(failed(CommonErrors.CANCELLED({ what: `task ${task.taskId}` })));
      else this.#start(task);
    }
  }

  /**
   * Another mover has the session: tasks that use it go on there. Those of a worker that cannot change over are lost, to be started anew; with a new
   * ticket for the same mover they go on with the one that they have.
   */
  changeDataPath(path: DataPath): void {
    for (const task of [...this.#tasks.values()]) {
      const before = dataPathOf(task.task);
      if (task.cancelled || before?.sessionId !== path.sessionId) continue;
      task.task = withDataPath(task.task, path);
      if (before?.endpoints?.join() === path.endpoints?.join() && !this.can('change-data-path')) continue;
      task.newPath = path;
      this.#tellPath(task, path);
    }
  }

  /** Gives up tasks that the worker has told nothing of for too long, although it lives. Returns how many. */
  loseStuck(): number {
    const stuck = [...this.#tasks.values()].filter((task) => !task.cancelled && this.elapsed() - task.heardAt >= this.timing.stuckMs);
    for (const task of stuck) {
      this.send({ cancelTask: { taskId: task.taskId } });
      task.settle(this.#lost(task));
    }
    return stuck.length;
  }

  loseAll(): void {
    for (const task of [...this.#tasks.values()]) task.settle(this.#lost(task));
  }

  #start(task: Task): void {
    task.newPath = undefined;
    this.send({ startTask: { taskId: task.taskId, correlationId: task.correlationId, ...task.task } });
  }

  #tellPath(task: Task, dataPath: DataPath): void {
    if (this.can('change-data-path')) return this.send({ changeDataPath: { taskId: task.taskId, dataPath } });
    this.send({ cancelTask: { taskId: task.taskId } });
    task.settle(this.#lost(task));
  }

  #lost(task: Task): TaskOutcome {
    return failed(WorkerErrors.WORKER_LOST({ workerId: this.workerId, during: `task ${task.taskId}` }));
  }
}

const imagePaths: Partial<Record<string, ImagePath>> = {
  IMAGE_PATH_DIRECT: 'direct',
  IMAGE_PATH_PROXY: 'proxy',
  IMAGE_PATH_LOCAL: 'local',
  IMAGE_PATH_ATTACHED: 'attached',
};

function outcomeOf(result: TaskResult__Output): TaskOutcome {
  return {
    ...(result.failure ? { failure: failureError(result.failure) } : {}),
    counters: countersFromWire(result.counters),
    imagePath: imagePaths[result.imagePath] ?? 'unknown',
    imagePathReason: result.imagePathReason,
  };
}

/** The outcome of a task that never came to move bytes. */
export function failed(failure: TidemarkError): TaskOutcome {
  return { failure, counters: noBytes, imagePath: 'unknown', imagePathReason: '' };
}
