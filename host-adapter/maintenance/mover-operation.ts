import { randomUUID } from 'node:crypto';
import { pause } from '../../common/rpc/call';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { FlowEnd } from '../jobs/flow';
import { aborted } from '../jobs/operation-follower';
import { isTransient } from '../jobs/task-context';
import type { TaskContext } from '../jobs/task-context';
import { mayEnter } from '../jobs/task-machine';
import type { MoverClient } from '../registry/mover-connections';
import { Repositories } from '../repositories/repositories';

/** One long operation of a mover: how it is started, watched and cancelled. */
export interface MoverOperation<Event> {
  /** Resolves with its id. The same request id names the same operation, however often it is sent. */
  start(mover: MoverClient, requestId: string): Promise<string>;
  watch(mover: MoverClient, operationId: string, settings: { idleTimeoutMs: number; signal: AbortSignal }): AsyncIterable<Event>;
  cancel(mover: MoverClient, operationId: string, signal: AbortSignal): Promise<unknown>;
  /** Looks at one event; an answer is the end. May throw what failed. */
  take(event: Event): FlowEnd | undefined | Promise<FlowEnd | undefined>;
}

/** What is needed of `Repositories`. */
type Movers = Pick<Repositories, 'mover' | 'at'>;

/** A mover that broke a watch off is asked for so long whether the operation that was cancelled has ended. */
const cancelPatienceMs = 60_000;

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
  repositories: Movers,
  operation: MoverOperation<Event>,
  retryEveryMs: number,
): Promise<FlowEnd> {
  const { task } = context;
  try {
    // One that a server before this one left at work is beyond that.
    if (mayEnter(task.state, 'preparing')) await context.enter('preparing');
    let cancelledSince: number | undefined;
    let busySince: number | undefined;
    for (;;) {
      let waitMs = retryEveryMs;
      const mover = await context.patiently(() => started(context, repositories, operation), reasonOf, retryEveryMs);
      await context.enter('transferring');
      try {
        const end = await watched(context, mover, operation, retryEveryMs);
        if (end) return end;
      } catch (error) {
        if (context.shutdown.aborted) throw error;
        const isBusy = hasCode(error, 'MAINTENANCE_BUSY');
        if (isBusy || hasCode(error, 'OPERATION_NOT_FOUND')) forget(context);
        else if (!isTransient(error)) throw error;
        if (isBusy) {
          busySince ??= context.elapsedMs();
          waitMs = error.retryDelayMs ?? retryEveryMs;
          if (context.elapsedMs() - busySince > context.settings.current.waitLimitMs) throw error;
        }
        if (context.cancel.aborted) {
          cancelledSince ??= context.elapsedMs();
          if (task.operationId === null || context.elapsedMs() - cancelledSince > cancelPatienceMs) return { state: 'cancelled' };
        }
        await context.waiting(isBusy ? 'repository-maintenance' : 'repository-mover-lost');
      }
      await pause(waitMs, context.cancel.aborted ? context.shutdown : context.stop);
    }
  } finally {
    if (!context.shutdown.aborted) {
      task.step = 'waiting';
      forget(context);
    }
  }
}

/** The operation is not known there any more; the next one is another. */
function forget({ task }: TaskContext): void {
  task.operationId = null;
  task.request = null;
}

/** The mover that has the operation, which is started where it is not. What may exist from here on is written down first. */
async function started<Event>(context: TaskContext, repositories: Movers, operation: MoverOperation<Event>): Promise<MoverClient> {
  const { task } = context;
  const mover = await reached(context, repositories);
  // Another mover knows nothing of the operation.
  if (task.request && task.request.moverId !== mover.id) forget(context);
  if (task.operationId !== null) return mover;
  task.request ??= { id: randomUUID(), moverId: mover.id };
  task.step = 'started';
  await context.save();
  task.operationId = await operation.start(mover, task.request.id);
  await context.save();
  return mover;
}

/** The one that was asked before, while it can be reached; else any. */
async function reached({ task, session }: TaskContext, repositories: Movers): Promise<MoverClient> {
  const { repositoryId } = session;
  if (!task.request) return repositories.mover(repositoryId);
  try {
    return await repositories.at(repositoryId, task.request.moverId);
  } catch {
    // Whatever keeps it away: when another one can go on there is no need to wait for it.
    return repositories.mover(repositoryId);
  }
}

/** Watches to the end, and passes a cancel on until it was heard. Undefined when the mover ended the watch without a result. */
async function watched<Event>(
  context: TaskContext,
  mover: MoverClient,
  operation: MoverOperation<Event>,
  retryEveryMs: number,
): Promise<FlowEnd | undefined> {
  const operationId = context.task.operationId ?? '';
  const over = new AbortController();
  const cancelling = passCancelOn(context.cancel, over.signal, () => operation.cancel(mover, operationId, over.signal), retryEveryMs);
  try {
    for await (const event of operation.watch(mover, operationId, { idleTimeoutMs: 30_000, signal: context.shutdown })) {
      const end = await taken(context, operation, event);
      if (end) return end;
    }
    return undefined;
  } finally {
    over.abort();
    await cancelling;
  }
}

/** What tells of a failure is an operation's last event: watched again it would tell the same for ever. */
async function taken<Event>(context: TaskContext, operation: MoverOperation<Event>, event: Event): Promise<FlowEnd | undefined> {
  try {
    return await operation.take(event);
  } catch (error) {
    forget(context);
    throw error;
  }
}

/** Never rejects. */
async function passCancelOn(cancel: AbortSignal, over: AbortSignal, ask: () => Promise<unknown>, everyMs: number): Promise<void> {
  await aborted(cancel, over);
  while (!over.aborted) {
    try {
      await ask();
      return;
    } catch (error) {
      if (hasCode(error, 'OPERATION_NOT_FOUND')) return;
    }
    await pause(everyMs, over).catch(() => undefined);
  }
}
