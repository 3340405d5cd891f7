import { Server } from '@grpc/grpc-js';
import { timestampToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import { verifyTicket } from '../../common/tickets/ticket';
import type { ProcessIdentity } from '../../common/tls/identity';
import type { MoverRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/MoverRegistryService';
import type { Point } from '../../proto/gen/tidemark/mover/v1/Point';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import type { SessionServiceDefinition } from '../../proto/gen/tidemark/mover/v1/SessionService';
import type { VerifyFinding } from '../../proto/gen/tidemark/mover/v1/VerifyFinding';
import { loadService } from '../../proto/loader';
import { FakeMaintenance } from './fake-maintenance';
import { FakeRepository, moverError, type FakeSession } from './fake-repository';
import { bind, hostClient, keepRegistered, quick, serveOptions } from './fake-process';

export const fakeRecoveryKey = 'RECOV-ERYKE-Y';

/** A mover in memory that speaks mover.v1 over mutual TLS. */
export class FakeMover {
  readonly calls: string[] = [];
  /** Below its hard mark: no new sessions. */
  full = false;
  ticketKeysPem: readonly string[] = [];
  /** Called at CommitSession, before anything happens and after the point exists; may reject. */
  onCommit: (when: 'before' | 'after') => Promise<void> = () => Promise.resolve();
  /** Called when points are to be listed; may reject, or hold what was read before. */
  onList: (when: 'before' | 'after') => Promise<void> = () => Promise.resolve();
  /** What the next verification finds. */
  verifyFindings: VerifyFinding[] = [];
  readonly #server = new Server();
  #registration: { stop(): Promise<void> } | undefined;
  #attached = false;
  /** Secret of the access key that it uses. */
  accessSecret: string | undefined;
  readonly maintenance: FakeMaintenance;

  constructor(
    private readonly identity: ProcessIdentity,
    /** Several movers may serve the same one. */
    readonly repository = new FakeRepository(),
    private readonly hostName = 'fake-host',
  ) {
    this.maintenance = new FakeMaintenance(repository.points);
  }

  get id(): string {
    return this.identity.self.id;
  }

  get sessions(): Map<string, FakeSession> {
    return this.repository.sessions;
  }

  get points(): FakeRepository['points'] {
    return this.repository.points;
  }

  get slots(): FakeRepository['slots'] {
    return this.repository.slots;
  }

  get givenKey(): string | undefined {
    return this.repository.givenKey;
  }

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
          process: { instanceId: this.id, bootId: 'b', protocols: ['tidemark.mover.v1'], hostName: this.hostName, version: '0' },
          controlEndpoint: `127.0.0.1:${port}`,
          dataEndpoints: [`127.0.0.1:${port}`],
        },
        quick,
      );
      this.ticketKeysPem = reply.ticketPublicKeysPem;
      return async () => {
        await client.call('MoverHeartbeat', { leaseId: reply.leaseId }, quick);
      };
    });
  }

  /** The same mover after it was stopped, to be started: as a new process, or as one whose way to the host was cut. */
  reborn(isSameProcess = false): FakeMover {
    const again = new FakeMover(this.identity, this.repository, this.hostName);
    if (isSameProcess) [again.#attached, again.accessSecret] = [this.#attached, this.accessSecret];
    return again;
  }

  async stop(): Promise<void> {
    await this.#registration?.stop();
    this.#server.forceShutdown();
  }

  get isAttached(): boolean {
    return this.#attached;
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
      repositoryId: this.repository.id,
      location: this.repository.location,
      settings: this.repository.settings,
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
    const here = () => {
      if (!this.#attached) throw moverError('REPOSITORY_NOT_FOUND', 'NOT_FOUND');
      return { repository: this.#repository() };
    };
    serve<RepositoryServiceDefinition>(
      this.#server,
      loadService('tidemark/mover/v1/repository_service.proto', 'tidemark.mover.v1.RepositoryService').service,
      {
        CreateRepository: {
          roles: host,
          unary: async (request) => {
            this.#attached = true;
            this.repository.location = request.location;
            this.repository.givenKey = request.key?.secret;
            this.accessSecret = request.access?.secretAccessKey;
            if (request.key) this.repository.secrets.add(request.key.secret);
            return { ...here(), recoveryKey: request.key ? fakeRecoveryKey : '' };
          },
        },
        AttachRepository: {
          roles: host,
          unary: async ({ key, access }) => {
            const { givenKey, secrets, accessSecrets } = this.repository;
            if (access && accessSecrets.size > 0 && !accessSecrets.has(access.secretAccessKey))
              throw moverError('REPOSITORY_LOCATION_INVALID', 'INVALID_ARGUMENT', {
                field: 'access',
                problem: 'the server refuses the access key',
              });
            if (givenKey !== undefined && !this.#attached && !key) throw moverError('REPOSITORY_KEY_NEEDED', 'FAILED_PRECONDITION');
            if (key && !secrets.has(key.secret)) throw moverError('REPOSITORY_KEY_WRONG', 'PERMISSION_DENIED');
            this.#attached = true;
            if (access) this.accessSecret = access.secretAccessKey;
            return here();
          },
        },
        DetachRepository: {
          roles: host,
          unary: async ({ repositoryId }) => {
            if (repositoryId !== this.repository.id) return {};
            const isBusy = [...this.sessions.values()].some(({ owner, state }) => owner === this.id && state === 'OPEN');
            if (this.#attached && isBusy) throw moverError('REPOSITORY_IN_USE', 'FAILED_PRECONDITION');
            this.#attached = false;
            return {};
          },
        },
        GetRepository: { roles: host, unary: async () => here() },
        UpdateRepository: {
          roles: host,
          unary: async ({ compression, compressionLevel, softFreeBytes, hardFreeBytes, capacityBytes, grace }) => {
            this.repository.settings = {
              ...this.repository.settings,
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
          serverStream: async function* (this: void, request: { vmId: string; includeRemoved: boolean }) {
            if (request.includeRemoved) {
              for (const { point, removedAt } of maintenance.removed.values())
                yield { removed: { point, removedAt: timestampToWire(removedAt) } };
            }
            await listing('before');
            const listed = points.filter(({ point }) => request.vmId === '' || point.vmId === request.vmId);
            await listing('after');
            for (const { point } of listed) yield { point };
          },
        },
        GetPoint: {
          roles: host,
          unary: async (request) => {
            const found = this.points.find(({ point }) => point.pointId === request.pointId);
            if (!found) throw moverError('POINT_NOT_FOUND', 'NOT_FOUND');
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
            if (key) this.repository.secrets.add(key.secret);
            this.slots.push({ slotId, kind: key?.kind ?? 'REPOSITORY_KEY_KIND_UNSPECIFIED', inUse: false });
            return { recoveryKey: key?.kind === 'REPOSITORY_KEY_KIND_RECOVERY' ? fakeRecoveryKey : '' };
          },
        },
        RemoveRepositoryKeySlot: {
          roles: host,
          unary: async ({ slotId }) => {
            this.repository.slots = this.slots.filter((slot) => slot.slotId !== slotId);
            return {};
          },
        },
        RotateRepositoryKey: { roles: host, unary: async () => ({ rotatedAt: { seconds: 1_700_000_000, nanos: 0 } }) },
      },
      serveOptions('mover'),
    );
    this.maintenance.serve(this.#server);
    const { points, maintenance } = this;
    const findingsNow = () => this.verifyFindings;
    const listing = (when: 'before' | 'after') => this.onList(when);
    const known = (id: string): FakeSession => {
      const session = this.sessions.get(id);
      if (!session) throw moverError('SESSION_NOT_FOUND', 'NOT_FOUND');
      if (session.owner !== this.id) throw moverError('SESSION_ELSEWHERE', 'FAILED_PRECONDITION');
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
            here();
            if (this.full) throw moverError('REPOSITORY_FULL', 'RESOURCE_EXHAUSTED');
            const session = this.sessions.get(request.sessionId);
            if (session && session.state !== 'OPEN') throw moverError('SESSION_ENDED', 'FAILED_PRECONDITION');
            if (session && session.owner !== this.id && !request.takeOver) throw moverError('SESSION_ELSEWHERE', 'FAILED_PRECONDITION');
            if (session) session.owner = this.id;
            else this.sessions.set(request.sessionId, { kind: request.kind, pointIds: request.pointIds, state: 'OPEN', owner: this.id });
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
            if (session.state === 'ABORTED') throw moverError('SESSION_ENDED', 'FAILED_PRECONDITION');
            if (session.state === 'OPEN') {
              session.state = 'COMMITTED';
              session.point = {
                ...(request.point as unknown as Point),
                repositoryId: this.repository.id,
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
            if (session?.state === 'COMMITTED') throw moverError('SESSION_ENDED', 'FAILED_PRECONDITION');
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
