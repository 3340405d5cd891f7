import type { Logger } from '../../common/log/logger';
import type { TicketClaims } from '../../common/tickets/ticket';
import type { FrameHeaders, FrameType } from '../../proto/data-mover/frame-types';
import type { BufferPool } from '../repository/blocks/buffer-pool';
import type { Session } from '../sessions/session';
import type { DataPortLimits } from './limits';
import type { PayloadBuffers } from './payload-buffers';

/** What handlers of frames may do with their connection. */
export interface Channel {
  /** Does nothing when the peer is gone. */
  send(frame: Buffer): void;
  /** Sends parts in one go; `release` is called once their memory is free, also when the peer is gone. */
  sendParts(parts: readonly Buffer[], release: () => void): void;
  /** Waits while too many answers are in the socket. Resolves when the peer is gone, too. */
  roomToSend(): Promise<void>;
  /** Runs work without holding up the frames behind it; holds them up when too much is running. A failure is answered under `sequence`. */
  beside(sequence: number, work: () => Promise<void>): void | Promise<void>;
}

/** Handlers of frames by type. One that must wait returns a promise: the next frame is handled after it. */
export type Handlers = { readonly [T in FrameType]?: (header: FrameHeaders[T], payload: Buffer) => void | Promise<void> };

/** What a connection needs of its port. */
export interface ConnectionContext {
  readonly limits: DataPortLimits;
  readonly logger: Logger;
  /** For read groups; shared by all connections. */
  readonly readPool: BufferPool;
  /** For frames that arrive in pieces; shared by all connections. */
  readonly payloads: PayloadBuffers;
  /** Connections that only measure the way. */
  readonly probing: Set<object>;
  /** Claims of a genuine ticket. Throws TICKET_INVALID, TICKET_EXPIRED. */
  checkTicket(ticket: string): TicketClaims;
  /** Throws TICKET_INVALID when the session is not here, SESSION_ELSEWHERE, SESSION_ENDED. */
  findSession(claims: TicketClaims): Session;
  now(): number;
}
