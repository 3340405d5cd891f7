/**
 * The access key of a bucket, or the user and password of a share, while the repository is in use. A new one is tried by a mover before it replaces
 * anything; then every mover that has the repository open is told, and one that is away when it comes back. Sessions go on.
 */
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import { hasCode, type TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { RepositoryRow, RepositoryStore } from '../catalogue/repository-store';
import { namedGateways } from '../data-paths/candidates';
import { HostRepositoryErrors } from '../errors/repository-errors';
import type { MoverClient, MoverConnections } from '../registry/mover-connections';
import type { RegisteredMover } from '../registry/mover-registry';
import type { RepositoryMovers } from './repository-movers';
import { accessFrom } from './repository-secrets';
import { allOf } from './retried-work';
import type { GivenAccess, RepositorySecrets } from './repository-secrets';

/** A mover that could not follow a change; the change holds all the same. */
export interface MoverProblem {
  readonly moverId: string;
  readonly moverName: string;
  readonly code: string;
  readonly message: string;
}

/** What a mover says of an access key that does not do; everything else says nothing of the key. */
const refusals = ['REPOSITORY_LOCATION_INVALID', 'REPOSITORY_ACCESS_DENIED', 'REPOSITORY_NOT_FOUND'];

/** True where a location asks for an access key, or a user and a password. */
export function asksForAccess(location: string): boolean {
  return /^(s3:|smb:\/\/)/.test(location);
}

export class RepositoryAccess {
  constructor(
    private readonly store: RepositoryStore,
    private readonly movers: MoverConnections,
    private readonly serving: RepositoryMovers,
    private readonly secrets: RepositorySecrets,
    private readonly logger: Logger,
  ) {}

  /** Throws ARGUMENT_INVALID where the location has no use for one. */
  check({ location }: Pick<RepositoryRow, 'location'>): void {
    if (asksForAccess(location)) return;
    throw CommonErrors.ARGUMENT_INVALID({
      field: 'access',
      problem: `${location} asks for none: only buckets and shares that movers mount do`,
    });
  }

  /**
   * Tries it, keeps it, tells all who serve the repository. `row` is the one with the gateways to be. Throws REPOSITORY_ACCESS_REFUSED, MOVER_LOST,
   * DATA_PATH_UNAVAILABLE, GATEWAY_MISSING; then nothing is changed.
   */
  async change(row: RepositoryRow, given: GivenAccess): Promise<MoverProblem[]> {
    const tried = await this.serving.best(row, async (mover) => {
      await this.#give(row, mover, given).catch((thrown: unknown) => {
        throw asRefusal(toTidemarkError(thrown, 'trying an access key'), row.name);
      });
      return mover.id;
    });
    const kept = this.secrets.open(row);
    // Kept only for gateways, also those of before: a mover on the repository's own machine keeps it itself.
    if (namedGateways(row) !== undefined || kept.access) {
      const sealedJson = this.secrets.seal(row.id, { ...kept, access: accessFrom(given) });
      await this.store.setServing(row.id, { sealedJson });
    }
    const problems: MoverProblem[] = [];
    for (const mover of await this.serving.serving(row)) {
      if (mover.identity.id === tried || !mover.connected) continue;
      try {
        await this.#tell(row, mover, given);
      } catch (thrown) {
        const error = toTidemarkError(thrown, 'telling a mover of an access key');
        this.logger.warn('a mover could not go over to an access key', { moverId: mover.identity.id, repositoryId: row.id, error });
        problems.push(problemOf(mover, error));
      }
    }
    return problems;
  }

  /** A mover came (back): it may have missed a change. Throws what keeps it from following; the other repositories are told all the same. */
  async moverCame(moverId: string): Promise<void> {
    const rows = (await this.store.all()).filter(({ sealedJson }) => sealedJson !== null);
    await allOf(
      rows.map(async (row) => {
        const mover = (await this.serving.serving(row)).find(({ identity }) => identity.id === moverId);
        if (mover) await this.#tell(row, mover);
      }),
    );
  }

  /** What is given, else what is kept. One that does not have the repository open is given it when it opens it. */
  async #tell(row: RepositoryRow, mover: RegisteredMover, given?: GivenAccess): Promise<void> {
    const { access } = this.secrets.open(row);
    const use = given ?? (access && { ...access, secretAccessKey: access.secretAccessKey.reveal() });
    const client = await this.movers.of(mover.identity.id);
    if (use && (await this.serving.attached(row, client))) await this.#give(row, client, use);
  }

  async #give(row: RepositoryRow, mover: MoverClient, { accessKeyId, secretAccessKey, caPem = '' }: GivenAccess): Promise<void> {
    const request = {
      location: row.location,
      expectedRepositoryId: row.id,
      access: { accessKeyId, secretAccessKey, caPem },
      ...this.serving.keyFor(row),
    };
    await mover.repositories.call('AttachRepository', request, { deadlineMs: 60_000 });
  }
}

/** What kept a mover from following a change, for people. */
export function problemOf({ identity, process }: RegisteredMover, { code, message }: TidemarkError): MoverProblem {
  return { moverId: identity.id, moverName: process?.hostName ?? identity.hostName, code, message };
}

function asRefusal(error: TidemarkError, repository: string): TidemarkError {
  if (!hasCode(error, ...refusals)) return error;
  const { problem = error.message } = error.meta as { problem?: string };
  return HostRepositoryErrors.REPOSITORY_ACCESS_REFUSED(
    { field: 'access', repository, problem: problem.replace(/\.$/, '') },
    { cause: error },
  );
}
