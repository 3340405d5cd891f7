import { pause } from '../../common/rpc/call';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { FlowEnd } from '../jobs/flow';
import { isTransient } from '../jobs/task-context';
import type { TaskContext } from '../jobs/task-context';
import type { MoverClient } from '../registry/mover-connections';
import { Repositories } from '../repositories/repositories';

/** One long operation of a mover: how it is started, watched and cancelled. */
export interface MoverOperation<Event> {
  /** Resolves with its id. */
  start(mover: MoverClient): Promise<string>;
  watch(mover: MoverClient, operationId: string, settings: { idleTimeoutMs: number; signal: AbortSignal }): AsyncIterable<Event>;
  cancel(mover: MoverClient, operationId: string): Promise<unknown>;
  /** Looks at one event; an answer is the end. May throw what failed. */
  take(event: Event): FlowEnd | undefined | Promise<FlowEnd | undefined>;
}

/** Why it waits; undefined for errors that waiting does not help. */
function reasonOf(error: TidemarkError): string | undefined {
  if (error.code === 'MAINTENANCE_BUSY') return 'repository-maintenance';
  return isTransient(error) ? Repositories.reasonOf(error) : undefined;
}

/**
 * Runs a mover's operation to its end, over restarts of the server (it is watched again), and of the mover (it is started again: what was done stays done).
 */
export async function followMoverOperation<Event>(
  context: TaskContext,
  repositories: Pick<Repositories, 'mover' | 'at'>,
  operation: MoverOperation<Event>,
  retryEveryMs: number,
): Promise<FlowEnd> {
  const { task, session } = context;
  let moverId: string | undefined;
  await context.enter('preparing');
  for (;;) {
    const mover = await context.patiently(async () => {
      // Another mover knows nothing of the operation.
      if (moverId !== undefined && task.operationId !== null) return repositories.at(session.repositoryId, moverId);
      return repositories.mover(session.repositoryId);
    }, reasonOf);
    moverId = mover.id;
    task.operationId ??= await context.patiently(() => operation.start(mover), reasonOf);
    task.step = 'started';
    await context.enter('transferring');
    const { operationId } = task;
    const cancel = () => void operation.cancel(mover, operationId).catch(() => undefined);
    context.cancel.addEventListener('abort', cancel, { once: true });
    if (context.cancel.aborted) cancel();
    try {
      for await (const event of operation.watch(mover, operationId, { idleTimeoutMs: 30_000, signal: context.shutdown })) {
        const end = await operation.take(event);
        if (!end) continue;
        task.step = 'waiting';
        task.operationId = null;
        return end;
      }
    } catch (error) {
      if (context.shutdown.aborted) throw error;
      if (context.cancel.aborted && isTransient(error)) return { state: 'cancelled' };
      if (hasCode(error, 'OPERATION_NOT_FOUND')) task.operationId = null;
      else if (hasCode(error, 'MOVER_LOST', 'PEER_UNAVAILABLE')) moverId = undefined;
      else if (!isTransient(error)) {
        task.step = 'waiting';
        task.operationId = null;
        throw error;
      }
      await context.waiting('repository-mover-lost');
    } finally {
      context.cancel.removeEventListener('abort', cancel);
    }
    await pause(retryEveryMs, context.stop);
  }
}
