/** Who may come in: the first frame of a connection, judged by certificate and ticket. */
import { CommonErrors } from '../../common/errors/common-errors';
import type { PeerIdentity } from '../../common/rpc/peer';
import type { TicketClaims } from '../../common/tickets/ticket';
import { encodeFrame } from '../../proto/data-mover/frame-codec';
import { DATA_MOVER_VERSION, FrameType, MAX_PROBE_BYTES, type FrameHeaders } from '../../proto/data-mover/frame-types';
import { DataPortErrors } from '../errors/mover-errors';
import type { Session } from '../sessions/session';
import type { ConnectionContext } from './channel';
import type { DataPortLimits } from './limits';
import { isProbeTicket } from './probe';

/** What a connection is for; undefined session: it only measures the way. */
export interface Admission {
  readonly session?: Session;
  readonly claims: TicketClaims;
}

/**
 * Throws PROTOCOL_VERSION_UNSUPPORTED, CERTIFICATE_REQUIRED, ROLE_NOT_ALLOWED, TICKET_INVALID, TICKET_EXPIRED, SESSION_ELSEWHERE, SESSION_ENDED,
 * REPOSITORY_NOT_FOUND, TOO_MANY_CONNECTIONS.
 */
export function admit(hello: FrameHeaders[typeof FrameType.hello], peer: PeerIdentity | undefined, context: ConnectionContext): Admission {
  const { limits, probing } = context;
  if (hello.version !== DATA_MOVER_VERSION)
    throw DataPortErrors.PROTOCOL_VERSION_UNSUPPORTED({ version: hello.version, supported: DATA_MOVER_VERSION });
  if (!peer) throw CommonErrors.CERTIFICATE_REQUIRED({ method: 'the data port' });
  if (peer.role !== 'worker' && peer.role !== 'host') throw CommonErrors.ROLE_NOT_ALLOWED({ method: 'the data port', role: peer.role });
  const claims = context.checkTicket(hello.ticket);
  if (peer.role === 'host' && claims.rights.includes('write')) throw CommonErrors.ROLE_NOT_ALLOWED({ method: 'writing', role: 'host' });
  if (isProbeTicket(claims)) {
    if (probing.size >= limits.maxProbes) throw DataPortErrors.TOO_MANY_CONNECTIONS({ limit: limits.maxProbes }, { retryDelayMs: 5_000 });
    return { claims };
  }
  const session = context.findSession(claims);
  const limit = limits.maxConnectionsPerSession;
  if (session.laneCount >= limit) throw DataPortErrors.TOO_MANY_CONNECTIONS({ limit }, { retryDelayMs: 5_000 });
  return { session, claims };
}

export function welcome(session: Session, limits: DataPortLimits): Buffer {
  const { blockSizeBytes, digestKey, codec, codecLevel } = session.repository;
  return encodeFrame(FrameType.welcome, {
    version: DATA_MOVER_VERSION,
    sessionId: session.id,
    blockSizeBytes,
    digestKey,
    codec,
    codecLevel,
    maxPutsInFlight: limits.maxPutsInFlight,
    maxBatch: limits.maxBatch,
  });
}

/** Holds nothing of any repository. */
export function welcomeToProbe(limits: DataPortLimits): Buffer {
  return encodeFrame(FrameType.welcome, {
    version: DATA_MOVER_VERSION,
    sessionId: '',
    blockSizeBytes: MAX_PROBE_BYTES,
    digestKey: Buffer.alloc(0),
    codec: 0,
    codecLevel: 0,
    maxPutsInFlight: limits.maxPutsInFlight,
    maxBatch: 0,
  });
}
