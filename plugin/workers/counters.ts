import type { TransferCounters__Output } from '../../proto/gen/tidemark/common/v1/TransferCounters';
import { noBytes } from '../operations/events';
import type { Counters } from '../operations/events';

/** Counters as a worker sends them; all zero when absent. */
export function countersFromWire(wire: TransferCounters__Output | null): Counters {
  if (!wire) return noBytes;
  return {
    plannedBytes: Number(wire.plannedBytes),
    readBytes: Number(wire.readBytes),
    transferredBytes: Number(wire.transferredBytes),
    storedBytes: Number(wire.storedBytes),
    zeroBytes: Number(wire.zeroBytes),
    deduplicatedBytes: Number(wire.deduplicatedBytes),
  };
}
