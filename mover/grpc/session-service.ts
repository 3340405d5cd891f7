import type { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { durationFromWire, timestampToWire } from '../../common/rpc/bytes';
import { serve, type ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { SessionServiceDefinition } from '../../proto/gen/tidemark/mover/v1/SessionService';
import { SessionErrors } from '../errors/mover-errors';
import type { AttachedRepositories } from '../repository/served/attached-repositories';
import type { Session } from '../sessions/session';
import type { SessionManager } from '../sessions/session-manager';
import { requireUuid } from './identifiers';
import { pointFromWire, pointToWire } from './point-message';

const definition = loadService('tidemark/mover/v1/session_service.proto', 'tidemark.mover.v1.SessionService').service;
const roles = ['host'] as const;
const shortestLeaseMs = 1_000;
const longestLeaseMs = 24 * 60 * 60 * 1000;
const defaultLeaseMs = 120_000;

const states = { open: 'SESSION_STATE_OPEN', committed: 'SESSION_STATE_COMMITTED', aborted: 'SESSION_STATE_ABORTED' } as const;

/** tidemark.mover.v1.SessionService; the contract with its conditions is in the .proto file. */
export function serveSessions(
  server: Server,
  repositories: Pick<AttachedRepositories, 'get'>,
  sessions: SessionManager,
  options: ServeOptions,
): void {
  serve<SessionServiceDefinition>(
    server,
    definition,
    {
      OpenSession: {
        roles,
        unary: async (request) => {
          const repository = repositories.get(request.repositoryId);
          const kind = request.kind === 'SESSION_KIND_BACKUP' ? 'backup' : request.kind === 'SESSION_KIND_RESTORE' ? 'restore' : undefined;
          if (!kind) throw CommonErrors.ARGUMENT_INVALID({ field: 'kind', problem: 'it is neither backup nor restore' });
          const session = await sessions.open(repository, {
            sessionId: requireUuid(request.sessionId, 'session_id'),
            kind,
            pointIds: request.pointIds,
            leaseDurationMs: leaseOf(request.leaseDuration),
            takeOver: request.takeOver,
          });
          const { state, leaseExpiresAt, wasTakenOver } = session;
          return { state: states[state], leaseExpiresAt: timestampToWire(leaseExpiresAt), takenOver: wasTakenOver };
        },
      },
      RenewSession: {
        roles,
        unary: async (request) => {
          const session = openSession(sessions, request.sessionId);
          session.renew(leaseOf(request.leaseDuration));
          return { leaseExpiresAt: timestampToWire(session.leaseExpiresAt) };
        },
      },
      CommitSession: {
        roles,
        unary: async (request) => {
          const point = await sessions.get(request.sessionId).commit(pointFromWire(request.point), request.configuration);
          return { point: pointToWire(point) };
        },
      },
      AbortSession: {
        roles,
        unary: async (request) => {
          await sessions.find(request.sessionId)?.abort('aborted');
          return {};
        },
      },
      GetSession: {
        roles,
        unary: async (request) => {
          const session = sessions.get(request.sessionId);
          return {
            state: states[session.state],
            leaseExpiresAt: timestampToWire(session.leaseExpiresAt),
            committedDiskIds: session.committedDisks.map((d) => d.diskId),
            pointId: session.pointId ?? '',
          };
        },
      },
    },
    options,
  );
}

function openSession(sessions: SessionManager, sessionId: string): Session {
  const session = sessions.get(sessionId);
  if (session.state !== 'open') throw SessionErrors.SESSION_NOT_FOUND({ sessionId });
  return session;
}

function leaseOf(duration: Parameters<typeof durationFromWire>[0]): number {
  const ms = durationFromWire(duration) ?? defaultLeaseMs;
  if (!(ms >= shortestLeaseMs && ms <= longestLeaseMs))
    throw CommonErrors.ARGUMENT_INVALID({ field: 'lease_duration', problem: 'it is not from 1 s to 24 h' });
  return ms;
}
