import type { Counters } from '../operations/events';
import type { Dispatcher, Slot } from '../workers/dispatcher';
import type { DiskTask, TaskOutcome } from '../workers/tasks';
import type { Patience } from './patience';
import { ProtectionErrors } from './protection-errors';

/** No byte moved for this long: the disk is tried again (product defaults §3). */
const stallMs = 10 * 60_000;
const stallLookMs = 15_000;

export interface WatchedTask {
  readonly slot: Slot;
  readonly task: DiskTask;
  readonly diskId: string;
  readonly correlationId: string;
  readonly signal: AbortSignal;
  progress(counters: Counters): void;
}

/** Runs a task in a slot and stops it when no byte moves any more. Never rejects: the outcome's failure is then TRANSFER_STALLED. */
export async function runWatched(dispatcher: Dispatcher, patience: Patience, order: WatchedTask): Promise<TaskOutcome> {
  const stall = new AbortController();
  const done = new AbortController();
  let movedAt = patience.clock.elapsed();
  let moved = 0;
  const watch = (async () => {
    while (!done.signal.aborted) {
      await patience.clock.sleep(stallLookMs, done.signal).catch(() => undefined);
      if (!done.signal.aborted && patience.clock.elapsed() - movedAt >= stallMs) stall.abort();
    }
  })();
  const outcome = await dispatcher.runIn(order.slot, order.task, {
    correlationId: order.correlationId,
    signal: AbortSignal.any([order.signal, stall.signal]),
    progress: ({ counters }) => {
      const now = counters.plannedBytes + counters.readBytes + counters.transferredBytes + counters.zeroBytes;
      if (now !== moved) movedAt = patience.clock.elapsed();
      moved = now;
      order.progress(counters);
    },
  });
  done.abort();
  await watch;
  if (!stall.signal.aborted || outcome.failure === undefined) return outcome;
  return { ...outcome, failure: ProtectionErrors.TRANSFER_STALLED({ diskId: order.diskId, waitedMs: stallMs }) };
}

/** Counts only grow, also when a disk is begun again. */
export function largest(a: Counters, b: Counters): Counters {
  return {
    plannedBytes: Math.max(a.plannedBytes, b.plannedBytes),
    readBytes: Math.max(a.readBytes, b.readBytes),
    transferredBytes: Math.max(a.transferredBytes, b.transferredBytes),
    storedBytes: Math.max(a.storedBytes, b.storedBytes),
    zeroBytes: Math.max(a.zeroBytes, b.zeroBytes),
    deduplicatedBytes: Math.max(a.deduplicatedBytes, b.deduplicatedBytes),
  };
}
