import { randomUUID } from 'node:crypto';
import { toTidemarkError } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { OperationResult__Output } from '../../proto/gen/tidemark/plugin/v1/OperationResult';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { StartWorkerOperationRequest } from '../../proto/gen/tidemark/plugin/v1/StartWorkerOperationRequest';
import { HostErrors } from '../errors/host-errors';
import type { FlowEnd, TaskFlow } from '../jobs/flow';
import { resultError } from '../jobs/operation-follower';
import type { OperationFollower } from '../jobs/operation-follower';
import { isInterruption } from '../jobs/retry-policy';
import { pluginReason } from '../jobs/task-context';
import type { TaskContext } from '../jobs/task-context';
import type { PluginConnections } from '../registry/plugin-connections';
import { describeCell, verdictOf } from './self-test';
import type { WorkerAction, WorkerOrder } from './worker-order';
import { settingsToWire } from './worker-settings';

/** Does something to a worker VM: one operation of the plug-in, watched to its end. What its self-test found is kept with the task. */
export class WorkerFlow implements TaskFlow {
  constructor(
    private readonly plugins: PluginConnections,
    private readonly follower: OperationFollower,
    private readonly logger: Logger,
  ) {}

  async attempt(context: TaskContext): Promise<FlowEnd> {
    const { session, task } = context;
    if (session.order.kind !== 'worker') throw HostErrors.BACKUP_SESSION_NOT_FOUND({ session: session.id });
    const { order } = session;
    try {
      if (task.step === 'waiting') await this.#start(context, order);
      const followed = await this.follower.follow(context, { plugin: () => this.plugins.of(order.pluginId) });
      if (followed.end === 'result') return await this.#judge(context, order, followed.result);
      if (context.cancel.aborted) return { state: 'cancelled' };
      throw HostErrors.OPERATION_LOST({ operationId: task.operationId ?? '' });
    } catch (thrown) {
      if (context.shutdown.aborted) throw thrown;
      const error = toTidemarkError(thrown, 'an operation on a worker');
      await this.#cancel(context, order);
      task.step = 'waiting';
      task.watchedSequence = 0;
      await context.save();
      // Somebody waits for it: only what a restart of ours interrupted is tried again, and just once.
      if (context.cancel.aborted || (isInterruption(error.code) && task.attempt === 1) || error.kind === 'bug') throw error;
      return { state: 'failed', failure: error };
    }
  }

  /** What may exist from here on is written down first. */
  async #start(context: TaskContext, order: WorkerOrder): Promise<void> {
    const { task } = context;
    await context.enter('preparing');
    task.operationId = randomUUID();
    task.watchedSequence = 0;
    task.step = 'started';
    await context.save();
    const request: StartWorkerOperationRequest = {
      operationId: task.operationId,
      requestedBy: order.requestedBy,
      ...actionToWire(order.action),
    };
    await context.patiently(
      async () => {
        const plugin = await this.plugins.of(order.pluginId);
        await plugin.workers.call('StartWorkerOperation', request, { deadlineMs: 10_000, signal: context.stop });
      },
      (error) => (error.code === 'WORKER_BUSY' ? 'worker-busy' : pluginReason(error)),
    );
  }

  /** An operation whose start was cancelled, or whose answer was lost, may be at work all the same. Never rejects. */
  async #cancel({ task }: TaskContext, order: WorkerOrder): Promise<void> {
    if (task.step !== 'started' || task.operationId === null) return;
    try {
      const plugin = await this.plugins.of(order.pluginId);
      await plugin.protection.call('CancelOperation', { operationId: task.operationId }, { deadlineMs: 10_000, attempts: 3 });
    } catch (error) {
      // Ended, unknown or unreachable.
      this.logger.debug('an operation was not cancelled', { operationId: task.operationId, error });
    }
  }

  async #judge(context: TaskContext, order: WorkerOrder, result: OperationResult__Output): Promise<FlowEnd> {
    const failure = result.failure ? resultError(result, context.task.operationId ?? '') : undefined;
    const test = await this.#noteSelfTest(context, order, result);
    switch (result.outcome) {
      case 'OUTCOME_SUCCESS':
        return order.action.name === 'test' && test ? judgeTest(context, test) : { state: 'success', failure };
      case 'OUTCOME_WARNING':
      case 'OUTCOME_PARTIAL':
        return { state: 'warning', failure };
      case 'OUTCOME_SKIPPED':
        return { state: 'skipped', failure };
      default:
        if (result.outcome === 'OUTCOME_CANCELLED' && context.cancel.aborted) return { state: 'cancelled' };
        throw failure ?? resultError(result, context.task.operationId ?? '');
    }
  }

  /**
   * Every cell of a matrix that is not good, so that the session tells it also when the worker has been tested again or is gone. Undefined where there is
   * none; for a test, whose end it is, it rejects when it cannot be read.
   */
  async #noteSelfTest(context: TaskContext, order: WorkerOrder, result: OperationResult__Output): Promise<SelfTest__Output | undefined> {
    const { action } = order;
    if (action.name === 'remove' || action.name === 'remove-orphan' || action.name === 'stop') return undefined;
    try {
      const { workers } = await context.patiently(async () => {
        const plugin = await this.plugins.of(order.pluginId);
        return plugin.workers.call('ListWorkers', {}, { deadlineMs: 5_000, signal: context.stop });
      }, pluginReason);
      const id = result.createdId === '' ? action.workerId : result.createdId;
      const test = workers.find((worker) => worker.workerId === id)?.selfTest ?? undefined;
      for (const cell of test?.cells ?? []) {
        const verdict = verdictOf(cell.verdict);
        if (verdict !== 'warning' && verdict !== 'failed') continue;
        const message = describeCell(cell);
        if (context.task.notes.some((note) => note.message === message)) continue;
        const severity = verdict === 'failed' ? 'blocking' : 'warning';
        context.task.notes.push({ at: context.now().toISOString(), code: cell.code || 'self-test', severity, message, diskId: '' });
      }
      await context.save();
      return test;
    } catch (error) {
      if (context.shutdown.aborted || action.name === 'test') throw error;
      // The operation ended well or not by its own account; only its details are missing.
      this.logger.warn('the self-test of a worker could not be read', { operationId: context.task.operationId, error });
      return undefined;
    }
  }
}

function judgeTest(context: TaskContext, test: SelfTest__Output): FlowEnd {
  switch (verdictOf(test.verdict)) {
    case 'failed':
      return { state: 'failed', failure: selfTestFailed(context, test) };
    case 'warning':
      return { state: 'warning' };
    default:
      return { state: 'success' };
  }
}

function selfTestFailed({ task }: TaskContext, test: SelfTest__Output): TidemarkError {
  const cells = test.cells.filter((cell) => verdictOf(cell.verdict) === 'failed').length;
  return HostErrors.WORKER_TEST_FAILED({ worker: task.vmName, cells });
}

function actionToWire(action: WorkerAction): Omit<StartWorkerOperationRequest, 'operationId' | 'requestedBy'> {
  switch (action.name) {
    case 'deploy': {
      const { platformId, clusterId, workerId, settings } = action;
      return { deploy: { platformId, clusterId, workerId, settings: settingsToWire(settings) } };
    }
    case 'edit':
      return { edit: { workerId: action.workerId, settings: settingsToWire(action.settings), force: action.force } };
    case 'redeploy':
    case 'remove':
    case 'stop':
      return { [action.name]: { workerId: action.workerId, force: action.force } };
    case 'test':
    case 'start':
      return { [action.name]: { workerId: action.workerId } };
    case 'remove-orphan':
      return { removeOrphan: { platformId: action.platformId, vmId: action.vmId } };
  }
}
