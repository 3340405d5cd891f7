/**
 * Repositories: where restore points are stored, and which mover serves each. The repository is the truth; points and sizes kept here
 * are a cache. Knows nothing of jobs or plug-ins. The format is the mover's.
 */
import { randomUUID } from 'node:crypto';
import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { Repository__Output } from '../../proto/gen/tidemark/mover/v1/Repository';
import type { PointStore, StoredPoint } from '../catalogue/point-store';
import type { RepositoryRow, RepositoryStore } from '../catalogue/repository-store';
import { HostErrors } from '../errors/host-errors';
import type { MoverClient, MoverConnections } from '../registry/mover-connections';
import { listedPoint } from './point-mapping';
import { keyToWire, type GivenKey } from './key-message';

export interface RepositoryRequest {
  readonly name: string;
  readonly location: string;
  readonly access?: { readonly accessKeyId: string; readonly secretAccessKey: string; readonly caPem?: string | undefined } | undefined;
  /** For an encrypted repository. */
  readonly key?: GivenKey | undefined;
  readonly mover?: string | undefined;
  readonly attach: boolean;
  readonly blockSizeBytes?: number | undefined;
  readonly compression?: 'none' | 'zstd' | undefined;
  readonly compressionLevel?: number | undefined;
}

/** A repository with what its mover says of it now, or why it cannot say. */
export interface RepositoryView {
  readonly row: RepositoryRow;
  readonly known: Repository__Output | undefined;
  /** `repository-…` reason, when it cannot be used now. */
  readonly unavailable: { readonly reason: string; readonly message: string } | undefined;
}

export class Repositories {
  constructor(
    private readonly store: RepositoryStore,
    private readonly points: PointStore,
    private readonly movers: MoverConnections,
    private readonly logger: Logger,
  ) {}

  /** Makes a repository or takes one over. Throws NAME_TAKEN, MOVER_… and what the mover says. */
  async add(request: RepositoryRequest): Promise<RepositoryView & { readonly recoveryKey: string | undefined }> {
    if (await this.store.find(request.name)) throw HostErrors.NAME_TAKEN({ what: 'repository', name: request.name });
    const mover = await this.movers.one(request.mover);
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
              compression: request.compression === 'none' ? 'COMPRESSION_NONE' : 'COMPRESSION_ZSTD',
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
    const row = {
      id: known.repositoryId,
      name: request.name,
      location: known.location,
      moverId: mover.id,
      lastKnownJson: JSON.stringify(known),
    };
    await this.store.add(row);
    if (request.attach) await this.refreshPoints(row.id);
    return { row, known, unavailable: undefined, recoveryKey: reply.recoveryKey === '' ? undefined : reply.recoveryKey };
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
    const mover = await this.movers.of(row.moverId);
    await mover.repositories.call('DetachRepository', { repositoryId: row.id }, { deadlineMs: 30_000 });
    await this.store.remove(row.id);
  }

  /** By id or name. Throws REPOSITORY_UNKNOWN. */
  async row(reference: string): Promise<RepositoryRow> {
    const row = await this.store.find(reference);
    if (!row) throw HostErrors.REPOSITORY_UNKNOWN({ repository: reference });
    return row;
  }

  /**
   * The mover through which a repository can be used now; attaches it when the mover does not serve it (any more).
   * Throws MOVER_LOST, MOVER_NOT_FOUND, or what the mover says.
   */
  async mover(repositoryId: string): Promise<MoverClient> {
    const row = await this.row(repositoryId);
    const mover = await this.movers.of(row.moverId);
    await this.#known(row, mover);
    return mover;
  }

  /** Why a repository cannot be used, as a waiting reason. */
  static reasonOf(thrown: unknown): string {
    const error = toTidemarkError(thrown, 'using a repository');
    if (error.code === 'MOVER_LOST' || error.code === 'PEER_UNAVAILABLE' || error.code === 'DEADLINE_EXCEEDED')
      return 'repository-mover-lost';
    if (error.code === 'REPOSITORY_FULL') return 'repo-full';
    return error.code === 'REPOSITORY_LOCKED' ? 'repo-locked' : `repository-${error.code.toLowerCase().replaceAll('_', '-')}`;
  }

  /** Reads all points of a repository into the cache. */
  async refreshPoints(repositoryId: string): Promise<void> {
    const mover = await this.mover(repositoryId);
    await this.points.replaceAll(repositoryId, await listPoints(mover, repositoryId, ''));
  }

  /** The points of one VM as the repository has them, newest last. */
  async pointsOf(repositoryId: string, vmId: string): Promise<StoredPoint[]> {
    return listPoints(await this.mover(repositoryId), repositoryId, vmId);
  }

  /** Brings the cache up to date after a mover came (back). Never rejects. */
  async moverCame(moverId: string): Promise<void> {
    for (const row of await this.store.all()) {
      if (row.moverId !== moverId) continue;
      try {
        await this.refreshPoints(row.id);
      } catch (error) {
        // Shown with the repository; asked again at the next use.
        this.logger.warn('points could not be read', { repositoryId: row.id, error });
      }
    }
  }

  async #view(row: RepositoryRow): Promise<RepositoryView> {
    try {
      const known = await this.#known(row, await this.movers.of(row.moverId));
      return { row, known, unavailable: undefined };
    } catch (thrown) {
      const error = toTidemarkError(thrown, 'asking a mover');
      const known = JSON.parse(row.lastKnownJson) as Repository__Output;
      return { row, known, unavailable: { reason: Repositories.reasonOf(error), message: error.message } };
    }
  }

  async #known(row: RepositoryRow, mover: MoverClient): Promise<Repository__Output> {
    let known: Repository__Output | null;
    try {
      known = (await mover.repositories.call('GetRepository', { repositoryId: row.id }, { deadlineMs: 10_000 })).repository;
    } catch (error) {
      if (!hasCode(error, 'REPOSITORY_NOT_FOUND')) throw error;
      const request = { location: row.location, expectedRepositoryId: row.id };
      known = (await mover.repositories.call('AttachRepository', request, { deadlineMs: 60_000 })).repository;
    }
    if (!known) throw HostErrors.REPOSITORY_UNAVAILABLE({ repository: row.name, reason: 'repository-no-answer' });
    await this.store.setLastKnown(row.id, JSON.stringify(known));
    return known;
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
