/**
 * Repositories: where restore points are stored, and which movers serve each: its own, gateways, or both. The repository is the truth; points and
 * sizes kept here are a cache. Knows nothing of jobs or plug-ins. The format is the mover's.
 */
import { randomUUID } from 'node:crypto';
import { toTidemarkError } from '../../common/errors/common-errors';
import type { Repository__Output } from '../../proto/gen/tidemark/mover/v1/Repository';
import type { PointStore, StoredPoint } from '../catalogue/point-store';
import type { RepositoryRow, RepositoryStore } from '../catalogue/repository-store';
import { namedGateways, serves } from '../data-paths/candidates';
import type { Candidates } from '../data-paths/candidates';
import { resolvePath } from '../data-paths/resolve';
import { HostErrors } from '../errors/host-errors';
import type { MoverClient, MoverConnections } from '../registry/mover-connections';
import type { MoverRegistry } from '../registry/mover-registry';
import { listedPoint } from './point-mapping';
import { keyToWire, type GivenKey } from './key-message';
import { askAgainWhereLost, addServerKey, unresolved } from './repository-movers';
import type { RepositoryMovers } from './repository-movers';
import { accessFrom } from './repository-secrets';
import { compressionToWire, type Compression } from './compression';
import type { GivenAccess, OpeningSecrets, RepositorySecrets } from './repository-secrets';

export interface RepositoryRequest {
  readonly name: string;
  readonly location: string;
  readonly access?: GivenAccess | undefined;
  /** For an encrypted repository. */
  readonly key?: GivenKey | undefined;
  /** The mover on the repository's own machine. */
  readonly mover?: string | undefined;
  /** The gateways that may carry data to it; empty: every gateway. */
  readonly gateways?: readonly string[] | undefined;
  readonly attach: boolean;
  readonly blockSizeBytes?: number | undefined;
  readonly compression?: Compression | undefined;
  readonly compressionLevel?: number | undefined;
}

/** A repository with what its mover says of it now, or why it cannot say. */
export interface RepositoryView {
  readonly row: RepositoryRow;
  readonly known: Repository__Output | undefined;
  /** `repository-…` reason, when it cannot be used now. */
  readonly unavailable: { readonly reason: string; readonly message: string } | undefined;
}

/** Nobody's own disk: any gateway may carry data to it. */
const sharedKinds = /^(s3|nfs|smb):/;

export class Repositories {
  constructor(
    private readonly store: RepositoryStore,
    private readonly points: PointStore,
    private readonly movers: MoverConnections,
    private readonly registry: MoverRegistry,
    private readonly candidates: Candidates,
    private readonly serving: RepositoryMovers,
    private readonly secrets: RepositorySecrets,
  ) {}

  /** Makes a repository or takes one over. Throws NAME_TAKEN, MOVER_… and what the mover says. */
  async add(request: RepositoryRequest): Promise<RepositoryView & { readonly recoveryKey: string | undefined }> {
    if (await this.store.find(request.name)) throw HostErrors.NAME_TAKEN({ what: 'repository', name: request.name });
    const route = await this.#route(request);
    const mover = await this.#first(request.name, route);
    const location = request.location.startsWith('/') ? `directory:${request.location}` : request.location;
    const access = request.access && { ...request.access, caPem: request.access.caPem ?? '' };
    const given = { location, ...(access && { access }), ...(request.key && { key: keyToWire(request.key) }) };
    const reply = request.attach
      ? { ...(await mover.repositories.call('AttachRepository', given, { deadlineMs: 60_000 })), recoveryKey: '' }
      : await mover.repositories.call(
          'CreateRepository',
          {
            requestId: randomUUID(),
            ...given,
            settings: {
              blockSizeBytes: request.blockSizeBytes ?? 0,
              compression: compressionToWire(request.compression),
              compressionLevel: request.compressionLevel ?? 0,
            },
          },
          { deadlineMs: 30_000, attempts: 3 },
        );
    const known = reply.repository;
    if (!known) throw HostErrors.REPOSITORY_UNAVAILABLE({ repository: request.name, reason: 'repository-no-answer' });
    // A mover of before encryption makes a repository in the clear without a word.
    if (request.key && !known.encrypted)
      throw HostErrors.REPOSITORY_UNAVAILABLE({ repository: request.name, reason: 'repository-not-encrypted' });
    const taken = await this.store.find(known.repositoryId);
    if (taken) throw HostErrors.NAME_TAKEN({ what: 'repository', name: taken.name });
    const secrets = await this.#secretsFor(request, known, mover, route);
    const row = {
      id: known.repositoryId,
      name: request.name,
      location: known.location,
      ...route,
      preferredGatewaysJson: null,
      sealedJson: this.secrets.seal(known.repositoryId, secrets),
      lastKnownJson: JSON.stringify(known),
    };
    await this.store.add(row);
    if (request.attach) await this.refreshPoints(row.id);
    return { row, known, unavailable: undefined, recoveryKey: reply.recoveryKey === '' ? undefined : reply.recoveryKey };
  }

  rows(): Promise<RepositoryRow[]> {
    return this.store.all();
  }

  async list(): Promise<RepositoryView[]> {
    return Promise.all((await this.store.all()).map((row) => this.#view(row)));
  }

  async show(reference: string): Promise<RepositoryView> {
    return this.#view(await this.row(reference));
  }

  /** Stops serving it; its data stays. Throws what the mover says while sessions are open. */
  async remove(reference: string): Promise<void> {
    const row = await this.row(reference);
    // Its own mover has to let go of it; a gateway that is away has nothing that anybody else needs.
    for (const { identity, connected } of await this.serving.serving(row)) {
      if (!connected && identity.id !== row.moverId) continue;
      const mover = await this.movers.of(identity.id);
      await mover.repositories.call('DetachRepository', { repositoryId: row.id }, { deadlineMs: 30_000 });
    }
    await this.store.remove(row.id);
  }

  /** By id or name. Throws REPOSITORY_UNKNOWN. */
  async row(reference: string): Promise<RepositoryRow> {
    const row = await this.store.find(reference);
    if (!row) throw HostErrors.REPOSITORY_UNKNOWN({ repository: reference });
    return row;
  }

  /**
   * A mover through which a repository can be used now, for calls that open no session; attaches it when the mover does not serve it (any more).
   * Throws MOVER_LOST, DATA_PATH_UNAVAILABLE, GATEWAY_MISSING, or what the mover says.
   */
  async mover(repositoryId: string): Promise<MoverClient> {
    return (await this.serving.reach(await this.row(repositoryId))).mover;
  }

  /** A certain mover, which attaches the repository when it does not serve it (any more). Throws MOVER_LOST, or what the mover says. */
  async at(repositoryId: string, moverId: string): Promise<MoverClient> {
    return this.serving.at(await this.row(repositoryId), moverId);
  }

  /** Why a repository cannot be used, as a waiting reason. */
  static reasonOf(thrown: unknown): string {
    const error = toTidemarkError(thrown, 'using a repository');
    if (error.code === 'DATA_PATH_UNAVAILABLE') return String(error.meta['reason']);
    if (error.code === 'MOVER_LOST' || error.code === 'PEER_UNAVAILABLE') return 'repository-mover-lost';
    // The mover is there and does not answer: it waits for its storage, or has too much to do.
    if (error.code === 'DEADLINE_EXCEEDED') return 'repository-no-answer';
    if (error.code === 'REPOSITORY_FULL') return 'repo-full';
    return error.code === 'REPOSITORY_LOCKED' ? 'repo-locked' : `repository-${error.code.toLowerCase().replaceAll('_', '-')}`;
  }

  /** Reads all points of a repository into the cache. */
  async refreshPoints(repositoryId: string): Promise<void> {
    await this.points.replaceAll(repositoryId, () => this.#listPoints(repositoryId, ''));
  }

  /** The points of one VM as the repository has them, newest last. */
  async pointsOf(repositoryId: string, vmId: string): Promise<StoredPoint[]> {
    return this.#listPoints(repositoryId, vmId);
  }

  /** Ids of those that a mover may serve. */
  async servedBy(moverId: string): Promise<string[]> {
    const mover = (await this.registry.list()).find(({ identity }) => identity.id === moverId);
    return mover ? (await this.store.all()).filter((row) => serves(mover, row)).map(({ id }) => id) : [];
  }

  #listPoints(repositoryId: string, vmId: string): Promise<StoredPoint[]> {
    return askAgainWhereLost(
      () => this.mover(repositoryId),
      (mover) => listPoints(mover, repositoryId, vmId),
    );
  }

  async #view(row: RepositoryRow): Promise<RepositoryView> {
    try {
      const { known } = await this.serving.reach(row);
      return { row, known, unavailable: undefined };
    } catch (thrown) {
      const error = toTidemarkError(thrown, 'asking a mover');
      const known = JSON.parse(row.lastKnownJson) as Repository__Output;
      return { row, known, unavailable: { reason: Repositories.reasonOf(error), message: error.message } };
    }
  }

  /** Who is to serve a new repository. Throws MOVER_NOT_FOUND, MOVER_AMBIGUOUS. */
  async #route({ location, mover, gateways }: RepositoryRequest): Promise<Pick<RepositoryRow, 'moverId' | 'gatewaysJson'>> {
    const idOf = async (reference: string) => (await this.registry.find(reference)).identity.id;
    const moverId = mover === undefined ? '' : await idOf(mover);
    if (gateways) return { moverId, gatewaysJson: JSON.stringify(await Promise.all(gateways.map(idOf))) };
    if (moverId !== '') return { moverId, gatewaysJson: null };
    const anyGateway = sharedKinds.test(location) && (await this.registry.list()).some((one) => one.gateway);
    if (anyGateway) return { moverId: '', gatewaysJson: '[]' };
    return { moverId: (await this.movers.one(undefined)).id, gatewaysJson: null };
  }

  /** The mover that makes or opens it first. */
  async #first(name: string, route: Pick<RepositoryRow, 'moverId' | 'gatewaysJson'>): Promise<MoverClient> {
    const row = { id: '', name, location: '', sealedJson: null, lastKnownJson: '', preferredGatewaysJson: null, ...route };
    const found = resolvePath(await this.candidates.forCalls(row, new Set()));
    if (found.kind !== 'chosen') throw unresolved(row, found);
    return this.movers.of(found.mover.moverId);
  }

  /** What other gateways need to open it: they are given a key slot of the server's own rather than the administrator's key. */
  async #secretsFor(
    { access, key }: RepositoryRequest,
    known: Repository__Output,
    mover: MoverClient,
    route: Pick<RepositoryRow, 'gatewaysJson'>,
  ): Promise<OpeningSecrets> {
    if (namedGateways(route) === undefined) return {};
    const kept = access && accessFrom(access);
    return key ? { access: kept, key: await addServerKey(mover, known) } : { access: kept };
  }
}

async function listPoints(mover: MoverClient, repositoryId: string, vmId: string): Promise<StoredPoint[]> {
  const found: StoredPoint[] = [];
  for await (const entry of mover.repositories.stream('ListPoints', { repositoryId, vmId }, { idleTimeoutMs: 60_000 })) {
    const point = listedPoint(repositoryId, entry);
    if (point) found.push(point);
  }
  return found;
}
