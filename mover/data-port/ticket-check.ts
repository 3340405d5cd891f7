import { verifyTicket } from '../../common/tickets/ticket';
import type { TicketClaims } from '../../common/tickets/ticket';
import { DataPortErrors } from '../errors/mover-errors';

/** Public keys of the host that sign tickets, as the last answer of the host had them. */
export interface TicketKeys {
  readonly publicKeysPem: readonly string[];
}

/** Claims of a genuine ticket that is still valid. Throws TICKET_INVALID, TICKET_EXPIRED. */
export function checkTicket(ticket: string, keys: TicketKeys, now: Date): TicketClaims {
  let verified;
  try {
    verified = verifyTicket(ticket, keys.publicKeysPem, now);
  } catch (cause) {
    throw DataPortErrors.TICKET_INVALID({ problem: 'it cannot be read' }, { cause });
  }
  if (!verified)
    throw DataPortErrors.TICKET_INVALID({
      problem: keys.publicKeysPem.length === 0 ? 'this mover has no keys of the host yet' : 'the host did not sign it',
    });
  if (verified.expired) throw DataPortErrors.TICKET_EXPIRED({});
  return verified.claims;
}
