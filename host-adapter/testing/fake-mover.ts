import { Server } from '@grpc/grpc-js';
import { defineErrors } from '../../common/errors/define-errors';
import { timestampToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import { verifyTicket } from '../../common/tickets/ticket';
import type { ProcessIdentity } from '../../common/tls/identity';
import type { MoverRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/MoverRegistryService';
import type { Point } from '../../proto/gen/tidemark/mover/v1/Point';
import type { RepositoryKeySlot } from '../../proto/gen/tidemark/mover/v1/RepositoryKeySlot';
import type { RepositorySettings } from '../../proto/gen/tidemark/mover/v1/RepositorySettings';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import type { SessionServiceDefinition } from '../../proto/gen/tidemark/mover/v1/SessionService';
import { loadService } from '../../proto/loader';
import { bind, hostClient, keepRegistered, serveOptions } from './fake-process';

/** As the mover's own codes, under names that do not clash with them in one program. */
const FakeMoverErrors = defineErrors({
  FAKE_SESSION_ENDED: { kind: 'failure', retry: 'never', status: 'FAILED_PRECONDITION', message: () => 'The session ended.' },
  FAKE_NOT_FOUND: { kind: 'failure', retry: 'never', status: 'NOT_FOUND', message: () => 'There is no such thing.' },
});

interface FakeSession {
  readonly kind: string;
  readonly pointIds: readonly string[];
  state: 'OPEN' | 'COMMITTED' | 'ABORTED';
  point?: Point;
}

export const fakeRecoveryKey = 'RECOV-ERYKE-Y';

/** A mover in memory that speaks mover.v1 over mutual TLS. */
export class FakeMover {
  readonly sessions = new Map<string, FakeSession>();
  readonly points: { point: Point; configuration: string }[] = [];
  readonly calls: string[] = [];
  ticketKeysPem: readonly string[] = [];
  /** Called at CommitSession, before anything happens and after the point exists; may reject. */
  onCommit: (when: 'before' | 'after') => Promise<void> = () => Promise.resolve();
  /** What the next verification finds. */
  verifyFindings: { code: string; message: string }[] = [];
  readonly #server = new Server();
  #registration: { stop(): void } | undefined;
  #location = '';

  constructor(private readonly identity: ProcessIdentity) {}

  /** Serves, and registers at whatever endpoint the host has now. */
  async start(hostEndpoint: () => string): Promise<void> {
    this.#serve();
    const port = await bind(this.#server, this.identity);
    const connect = () =>
      hostClient<MoverRegistryServiceDefinition>('mover_registry_service', 'MoverRegistryService', hostEndpoint(), this.identity);
    this.#registration = keepRegistered(connect, async (client) => {
      const reply = await client.call(
        'RegisterMover',
        {
          process: { instanceId: 'mover-instance', bootId: 'b', protocols: ['tidemark.mover.v1'], hostName: 'fake-host', version: '0' },
          controlEndpoint: `127.0.0.1:${port}`,
          dataEndpoints: [`127.0.0.1:${port}`],
        },
        { deadlineMs: 2000 },
      );
      this.ticketKeysPem = reply.ticketPublicKeysPem;
      return async () => {
        await client.call('MoverHeartbeat', { leaseId: reply.leaseId }, { deadlineMs: 2000 });
      };
    });
  }

  settings: RepositorySettings = { blockSizeBytes: 1_048_576, compression: 'COMPRESSION_ZSTD', compressionLevel: 1 };
  /** Secret of the key that a repository was made with. */
  givenKey: string | undefined;
  slots: RepositoryKeySlot[] = [];

  stop(): void {
    this.#registration?.stop();
    this.#server.forceShutdown();
  }

  openSessions(): string[] {
    return [...this.sessions].filter(([, session]) => session.state === 'OPEN').map(([id]) => id);
  }

  /** What a worker would be allowed with a ticket. */
  ticketClaims(ticket: string) {
    return verifyTicket(ticket, this.ticketKeysPem, new Date())?.claims;
  }

  #repository() {
    return {
      repositoryId: 'repository-1',
      location: this.#location,
      settings: this.settings,
      formatVersion: 1,
      pointCount: this.points.length,
      storedBytes: 0,
      freeBytes: 1000,
      blockCount: 0,
      openSessionCount: this.openSessions().length,
      encrypted: this.givenKey !== undefined,
    };
  }

  #serve(): void {
    const host = ['host'] as const;
    const here = () => ({ repository: this.#repository() });
    serve<RepositoryServiceDefinition>(
      this.#server,
      loadService('tidemark/mover/v1/repository_service.proto', 'tidemark.mover.v1.RepositoryService').service,
      {
        CreateRepository: {
          roles: host,
          unary: async (request) => {
            this.#location = request.location;
            this.givenKey = request.key?.secret;
            return { ...here(), recoveryKey: request.key ? fakeRecoveryKey : '' };
          },
        },
        AttachRepository: { roles: host, unary: async () => here() },
        DetachRepository: { roles: host, unary: async () => ({}) },
        GetRepository: { roles: host, unary: async () => here() },
        UpdateRepository: {
          roles: host,
          unary: async ({ compression, compressionLevel, softFreeBytes, hardFreeBytes, capacityBytes, grace }) => {
            this.settings = {
              ...this.settings,
              ...(compression !== 'COMPRESSION_UNSPECIFIED' && { compression }),
              ...(compressionLevel !== 0 && { compressionLevel }),
              ...(softFreeBytes !== undefined && { softFreeBytes }),
              ...(hardFreeBytes !== undefined && { hardFreeBytes }),
              ...(capacityBytes !== undefined && { capacityBytes }),
              ...(grace && { grace }),
            };
            return here();
          },
        },
        ListPoints: {
          roles: host,
          serverStream: async function* (this: void, request: { vmId: string }) {
            for (const { point } of points) if (request.vmId === '' || point.vmId === request.vmId) yield { point };
          },
        },
        GetPoint: {
          roles: host,
          unary: async (request) => {
            const found = this.points.find(({ point }) => point.pointId === request.pointId);
            if (!found) throw FakeMoverErrors.FAKE_NOT_FOUND({});
            return found;
          },
        },
        StartVerify: { roles: host, unary: async () => ({ operationId: 'verify-1' }) },
        WatchVerify: {
          roles: host,
          serverStream: async function* (this: void) {
            yield { progress: { checkedBlocks: 1, totalBlocks: 2, checkedBytes: 1_048_576 } };
            const findings = findingsNow();
            yield { result: { checkedBlocks: 2, checkedBytes: 2_097_152, checkedPoints: 1, findings, findingCount: findings.length } };
          },
        },
        CancelVerify: { roles: host, unary: async () => ({}) },
        ListRepositoryKeySlots: { roles: host, unary: async () => ({ slots: this.slots, dataKeyCount: 1 }) },
        AddRepositoryKeySlot: {
          roles: host,
          unary: async ({ slotId, key }) => {
            this.slots.push({ slotId, kind: key?.kind ?? 'REPOSITORY_KEY_KIND_UNSPECIFIED', inUse: false });
            return { recoveryKey: key?.kind === 'REPOSITORY_KEY_KIND_RECOVERY' ? fakeRecoveryKey : '' };
          },
        },
        RemoveRepositoryKeySlot: {
          roles: host,
          unary: async ({ slotId }) => {
            this.slots = this.slots.filter((slot) => slot.slotId !== slotId);
            return {};
          },
        },
        RotateRepositoryKey: { roles: host, unary: async () => ({ rotatedAt: { seconds: 1_700_000_000, nanos: 0 } }) },
      },
      serveOptions('mover'),
    );
    const points = this.points;
    const findingsNow = () => this.verifyFindings;
    const known = (id: string): FakeSession => {
      const session = this.sessions.get(id);
      if (!session) throw FakeMoverErrors.FAKE_NOT_FOUND({});
      return session;
    };
    serve<SessionServiceDefinition>(
      this.#server,
      loadService('tidemark/mover/v1/session_service.proto', 'tidemark.mover.v1.SessionService').service,
      {
        OpenSession: {
          roles: host,
          unary: async (request) => {
            this.calls.push('open');
            if (!this.sessions.has(request.sessionId)) {
              this.sessions.set(request.sessionId, { kind: request.kind, pointIds: request.pointIds, state: 'OPEN' });
            }
            return { state: 'SESSION_STATE_OPEN' };
          },
        },
        RenewSession: {
          roles: host,
          unary: async (request) => {
            this.calls.push('renew');
            known(request.sessionId);
            return {};
          },
        },
        CommitSession: {
          roles: host,
          unary: async (request) => {
            this.calls.push('commit');
            await this.onCommit('before');
            const session = known(request.sessionId);
            if (session.state === 'ABORTED') throw FakeMoverErrors.FAKE_SESSION_ENDED({});
            if (session.state === 'OPEN') {
              session.state = 'COMMITTED';
              session.point = {
                ...(request.point as unknown as Point),
                repositoryId: 'repository-1',
                committedAt: timestampToWire(new Date()),
              };
              this.points.push({ point: session.point, configuration: request.configuration });
            }
            await this.onCommit('after');
            return { point: session.point as Point };
          },
        },
        AbortSession: {
          roles: host,
          unary: async (request) => {
            this.calls.push('abort');
            const session = this.sessions.get(request.sessionId);
            if (session?.state === 'COMMITTED') throw FakeMoverErrors.FAKE_SESSION_ENDED({});
            if (session) session.state = 'ABORTED';
            return {};
          },
        },
        GetSession: {
          roles: host,
          unary: async (request) => ({ state: `SESSION_STATE_${known(request.sessionId).state}` as const }),
        },
      },
      serveOptions('mover'),
    );
  }
}
