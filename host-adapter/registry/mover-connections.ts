import { mutualClientCredentials } from '../../common/tls/credentials';
import type { ProcessIdentity } from '../../common/tls/identity';
import { RpcClient } from '../../common/rpc/call';
import type { DocumentServiceDefinition } from '../../proto/gen/tidemark/mover/v1/DocumentService';
import type { MaintenanceServiceDefinition } from '../../proto/gen/tidemark/mover/v1/MaintenanceService';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import type { SessionServiceDefinition } from '../../proto/gen/tidemark/mover/v1/SessionService';
import { loadService } from '../../proto/loader';
import { HostErrors } from '../errors/host-errors';
import type { MoverRegistry, RegisteredMover } from './mover-registry';

/** The services of one mover, and where its data port is. */
export interface MoverClient {
  readonly id: string;
  readonly dataEndpoints: readonly string[];
  readonly repositories: RpcClient<RepositoryServiceDefinition>;
  readonly sessions: RpcClient<SessionServiceDefinition>;
  readonly maintenance: RpcClient<MaintenanceServiceDefinition>;
  readonly documents: RpcClient<DocumentServiceDefinition>;
  close(): void;
}

/** Clients of movers, kept open per endpoint and process. */
export class MoverConnections {
  readonly #open = new Map<string, { key: string; client: MoverClient }>();

  constructor(
    private readonly registry: MoverRegistry,
    private readonly own: ProcessIdentity,
  ) {}

  /** Throws MOVER_NOT_FOUND, MOVER_LOST. */
  async of(moverId: string): Promise<MoverClient> {
    return this.#client(await this.registry.find(moverId));
  }

  /** One that may have lost its lease, by where it was last: to find out whether it is really gone. Throws MOVER_NOT_FOUND, MOVER_LOST. */
  async lastKnown(moverId: string): Promise<MoverClient> {
    return this.#client(await this.registry.find(moverId), true);
  }

  /** The only mover, or the one named. Throws as {@link of}, and MOVER_AMBIGUOUS. */
  async one(reference: string | undefined): Promise<MoverClient> {
    if (reference !== undefined) return this.of(reference);
    const all = await this.registry.list();
    const connected = all.filter((mover) => mover.connected);
    const only = connected.length > 0 ? connected : all;
    if (only.length > 1) throw HostErrors.MOVER_AMBIGUOUS({ count: only.length });
    if (!only[0]) throw HostErrors.MOVER_NOT_FOUND({ mover: 'any' });
    return this.#client(only[0]);
  }

  close(): void {
    for (const { client } of this.#open.values()) client.close();
    this.#open.clear();
  }

  #client(mover: RegisteredMover, evenLost = false): MoverClient {
    const { id } = mover.identity;
    if (!mover.registration || !(mover.connected || evenLost)) throw HostErrors.MOVER_LOST({ mover: id });
    const { controlEndpoint, dataEndpointsJson } = mover.registration;
    // A channel that pauses between its attempts, as its process went away, would fail calls to the one that was started since.
    const key = `${controlEndpoint} ${dataEndpointsJson} ${mover.process?.bootId ?? ''}`;
    const known = this.#open.get(id);
    if (known?.key === key) return known.client;
    known?.client.close();
    const credentials = mutualClientCredentials(this.own, 'mover');
    const make = <S>(file: string, name: string) =>
      new RpcClient<S>(loadService(`tidemark/mover/v1/${file}.proto`, `tidemark.mover.v1.${name}`).service, controlEndpoint, credentials);
    const repositories = make<RepositoryServiceDefinition>('repository_service', 'RepositoryService');
    const sessions = make<SessionServiceDefinition>('session_service', 'SessionService');
    const maintenance = make<MaintenanceServiceDefinition>('maintenance_service', 'MaintenanceService');
    const documents = make<DocumentServiceDefinition>('document_service', 'DocumentService');
    const client: MoverClient = {
      id,
      dataEndpoints: JSON.parse(dataEndpointsJson) as string[],
      repositories,
      sessions,
      maintenance,
      documents,
      close: () => {
        for (const one of [repositories, sessions, maintenance, documents]) one.close();
      },
    };
    this.#open.set(id, { key, client });
    return client;
  }
}
