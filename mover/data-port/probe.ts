import { FrameType, MAX_PROBED_BYTES } from '../../proto/data-mover/frame-types';
import type { TicketClaims } from '../../common/tickets/ticket';
import { DataPortErrors } from '../errors/mover-errors';

/** All that a connection with a probe ticket may send after Hello. */
const allowed: ReadonlySet<FrameType> = new Set([FrameType.hello, FrameType.probe, FrameType.ping, FrameType.pong, FrameType.bye]);

/**
 * True for a ticket that only measures the way. Such a ticket is of no session, and its right goes with no other: whoever holds one gets neither
 * data nor the key of a repository. Throws TICKET_INVALID for a mixture.
 */
export function isProbeTicket(claims: TicketClaims): boolean {
  if (!claims.rights.includes('probe')) return false;
  if (claims.rights.length > 1 || claims.sessionId !== '' || claims.repositoryId !== '' || claims.pointIds.length > 0)
    throw DataPortErrors.TICKET_INVALID({ problem: 'it mixes probing with other rights' });
  return true;
}

/** What one probing connection sent so far. */
export class Probe {
  private receivedBytes = 0;

  /** Throws TICKET_RIGHT_MISSING for frames of backups and restores. */
  assertAllowed(type: FrameType): void {
    if (!allowed.has(type)) throw DataPortErrors.TICKET_RIGHT_MISSING({ right: 'this ticket only probes' });
  }

  /** Counts a payload; returns all that came. Throws PROBE_LIMIT_REACHED. */
  count(payloadBytes: number): number {
    this.receivedBytes += payloadBytes;
    if (this.receivedBytes > MAX_PROBED_BYTES) throw DataPortErrors.PROBE_LIMIT_REACHED({ limitBytes: MAX_PROBED_BYTES });
    return this.receivedBytes;
  }
}
