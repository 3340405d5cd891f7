import { failureError } from '../../common/rpc/failure-message';
import { bytesFromWire, durationToWire, timestampFromWire } from '../../common/rpc/bytes';
import type { CollectProgress__Output } from '../../proto/gen/tidemark/mover/v1/CollectProgress';
import type { CollectResult__Output } from '../../proto/gen/tidemark/mover/v1/CollectResult';
import { HostErrors } from '../errors/host-errors';
import type { FlowEnd, TaskFlow } from '../jobs/flow';
import type { TaskContext } from '../jobs/task-context';
import type { Repositories } from '../repositories/repositories';
import { followMoverOperation } from './mover-operation';

type NumberField = Exclude<keyof CollectResult__Output, 'deletedAfter' | 'cancelled' | 'failure' | 'waitingCollections' | 'repaired'>;

const steps: Readonly<Record<string, string>> = {
  COLLECT_STEP_DELETING: 'deleting',
  COLLECT_STEP_MARKING: 'marking',
  COLLECT_STEP_REPACKING: 'repacking',
  COLLECT_STEP_CONDEMNING: 'condemning',
};

/** Gives space back: the mover collects, this side watches. */
export class CollectFlow implements TaskFlow {
  constructor(
    private readonly repositories: Repositories,
    private readonly retryEveryMs = 1000,
  ) {}

  attempt(context: TaskContext): Promise<FlowEnd> {
    const { order, repositoryId } = context.session;
    const { dryRun, bytesPerSecond, graceMs } = order.kind === 'collect' ? order : { dryRun: false, bytesPerSecond: 0 };
    return followMoverOperation(
      context,
      this.repositories,
      {
        start: async (mover, requestId) => {
          const grace = graceMs === undefined ? {} : { grace: durationToWire(graceMs) };
          const request = { requestId, repositoryId, dryRun, bytesPerSecond, ...grace };
          return (await mover.maintenance.call('StartCollect', request, { deadlineMs: 10_000, attempts: 3 })).operationId;
        },
        watch: (mover, operationId, settings) => mover.maintenance.stream('WatchCollect', { operationId }, settings),
        cancel: (mover, operationId, signal) => mover.maintenance.call('CancelCollect', { operationId }, { deadlineMs: 10_000, signal }),
        take: ({ progress, result }) => {
          if (progress) this.#progress(context, progress);
          return result ? this.#judge(context, result) : undefined;
        },
      },
      this.retryEveryMs,
    );
  }

  #progress(context: TaskContext, { step, done, total }: CollectProgress__Output): void {
    const now = { step: steps[step] ?? 'preparing', done: Number(done), total: Number(total) };
    context.task.collection = { result: null, ...context.task.collection, ...now };
    context.touch();
  }

  #judge(context: TaskContext, result: CollectResult__Output): FlowEnd {
    const { task } = context;
    if (result.failure) throw failureError(result.failure);
    if (result.cancelled && !context.cancel.aborted) throw HostErrors.OPERATION_STOPPED({ operationId: task.id });
    const number = (field: NumberField) => bytesFromWire(result[field], field);
    task.collection = {
      step: 'done',
      done: 0,
      total: 0,
      result: {
        deletedPacks: number('deletedPacks'),
        deletedBytes: number('deletedBytes'),
        deletedPoints: number('deletedPoints'),
        condemnedPacks: number('condemnedPacks'),
        condemnedBytes: number('condemnedBytes'),
        rewrittenPacks: number('rewrittenPacks'),
        rewrittenBytes: number('rewrittenBytes'),
        storedBytes: number('storedBytes'),
        neededBytes: number('neededBytes'),
        deletedAfter: timestampFromWire(result.deletedAfter)?.toISOString() ?? null,
        waitingCollections: result.waitingCollections,
      },
    };
    if (result.repaired.length > 0)
      context.note({
        code: 'maintenance-repaired',
        severity: 'warning',
        message: `damaged or missing in the repository, made anew: ${result.repaired.join(', ')}`,
        diskId: '',
      });
    return { state: result.cancelled ? 'cancelled' : 'success' };
  }
}
