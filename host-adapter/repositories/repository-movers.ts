/**
 * Movers at work for a repository: the one that answers, one that is named, those that serve it now. A mover attaches the repository when it is first
 * asked for it, with what the server keeps for that.
 */
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { RepositoryKey } from '../../proto/gen/tidemark/mover/v1/RepositoryKey';
import type { Repository__Output } from '../../proto/gen/tidemark/mover/v1/Repository';
import type { RepositoryRow, RepositoryStore } from '../catalogue/repository-store';
import { serves } from '../data-paths/candidates';
import type { Candidates } from '../data-paths/candidates';
import { resolvePath } from '../data-paths/resolve';
import type { Resolution } from '../data-paths/resolve';
import { HostErrors } from '../errors/host-errors';
import { isTransient } from '../jobs/task-context';
import type { MoverClient, MoverConnections } from '../registry/mover-connections';
import type { MoverRegistry, RegisteredMover } from '../registry/mover-registry';
import { keyToWire } from './key-message';
import { RepositorySecrets } from './repository-secrets';
import type { ServerKey } from './repository-secrets';

export class RepositoryMovers {
  constructor(
    private readonly store: RepositoryStore,
    private readonly movers: MoverConnections,
    private readonly registry: MoverRegistry,
    private readonly candidates: Candidates,
    private readonly secrets: RepositorySecrets,
  ) {}

  /** What `ask` gets from the best mover that answers. Throws MOVER_LOST, DATA_PATH_UNAVAILABLE, GATEWAY_MISSING, and what `ask` throws for good. */
  async best<T>(row: RepositoryRow, ask: (mover: MoverClient) => Promise<T>): Promise<T> {
    const failed = new Set<string>();
    for (let last: unknown; ;) {
      const found = resolvePath(await this.candidates.forCalls(row, failed));
      if (found.kind !== 'chosen') throw last ?? unresolved(row, found);
      try {
        return await ask(await this.movers.of(found.mover.moverId));
      } catch (error) {
        if (!isTransient(error)) throw error;
        last = error;
        failed.add(found.mover.moverId);
      }
    }
  }

  /** The same, with the repository attached there. */
  reach(row: RepositoryRow): Promise<{ mover: MoverClient; known: Repository__Output }> {
    return this.best(row, async (mover) => ({ mover, known: await this.known(row, mover) }));
  }

  /** The one named, with the repository attached. Throws MOVER_LOST, or what the mover says. */
  async at(row: RepositoryRow, moverId: string): Promise<MoverClient> {
    const mover = await this.movers.of(moverId);
    await this.known(row, mover);
    return mover;
  }

  /** Those that may serve it, connected or not. */
  async serving(row: RepositoryRow): Promise<RegisteredMover[]> {
    return (await this.registry.list()).filter((mover) => serves(mover, row));
  }

  /** Ids of movers by their references, in the same order. Throws MOVER_NOT_FOUND. */
  async idsOf(references: readonly string[]): Promise<string[]> {
    const ids: string[] = [];
    for (const reference of references) ids.push((await this.registry.find(reference)).identity.id);
    return [...new Set(ids)];
  }

  /** What a mover says of a repository; it attaches it when it does not serve it (any more). */
  async known(row: RepositoryRow, mover: MoverClient): Promise<Repository__Output> {
    let known = await this.attached(row, mover);
    if (!known) {
      const { access } = this.secrets.open(row);
      const request = {
        location: row.location,
        expectedRepositoryId: row.id,
        ...(access && { access: { ...access, secretAccessKey: access.secretAccessKey.reveal() } }),
        ...this.keyFor(row),
      };
      known = (await mover.repositories.call('AttachRepository', request, { deadlineMs: 60_000 })).repository ?? undefined;
    }
    if (!known) throw HostErrors.REPOSITORY_UNAVAILABLE({ repository: row.name, reason: 'repository-no-answer' });
    await this.store.setLastKnown(row.id, JSON.stringify(known));
    return known;
  }

  /** The server's own key of an encrypted repository, as AttachRepository takes it; nothing where the movers themselves keep one. */
  keyFor(row: RepositoryRow): { key?: RepositoryKey } {
    const { key } = this.secrets.open(row);
    return key ? { key: keyToWire({ kind: 'key-file', secret: key.secret.reveal() }) } : {};
  }

  /** The same of one that serves it now; undefined when it does not. */
  async attached(row: RepositoryRow, mover: MoverClient): Promise<Repository__Output | undefined> {
    try {
      return (await mover.repositories.call('GetRepository', { repositoryId: row.id }, { deadlineMs: 10_000 })).repository ?? undefined;
    } catch (error) {
      if (hasCode(error, 'REPOSITORY_NOT_FOUND')) return undefined;
      throw error;
    }
  }
}

/**
 * Asks a mover that has a repository; once more where it has lost it between the look and the question: one whose lease ran out attaches it again, and has not
 * got it meanwhile. `reach` waits for that.
 */
export async function askAgainWhereLost<T>(reach: () => Promise<MoverClient>, ask: (mover: MoverClient) => Promise<T>): Promise<T> {
  const mover = await reach();
  try {
    return await ask(mover);
  } catch (error) {
    if (!hasCode(error, 'REPOSITORY_NOT_FOUND')) throw error;
    return ask(await reach());
  }
}

/** A key slot of the server's own in an encrypted repository, which the mover goes over to: gateways are given that, never the administrator's key. */
export async function addServerKey(mover: MoverClient, { repositoryId, location }: Repository__Output): Promise<ServerKey> {
  const own = RepositorySecrets.createKey();
  const key = keyToWire({ kind: 'key-file', secret: own.secret.reveal() });
  await mover.repositories.call('AddRepositoryKeySlot', { repositoryId, slotId: own.slotId, key }, { deadlineMs: 30_000, attempts: 3 });
  // The administrator can remove the one given.
  await mover.repositories.call('AttachRepository', { location, expectedRepositoryId: repositoryId, key }, { deadlineMs: 60_000 });
  return own;
}

/** Why nobody was chosen, as an error. */
export function unresolved(row: RepositoryRow, found: Exclude<Resolution, { kind: 'chosen' }>): TidemarkError {
  if (found.kind === 'missing') return HostErrors.GATEWAY_MISSING({ repository: row.name });
  if (row.gatewaysJson === null) return HostErrors.MOVER_LOST({ mover: row.moverId });
  return HostErrors.DATA_PATH_UNAVAILABLE({ repository: row.name, reason: found.reason, text: found.message });
}
