/**
 * Which gateways may carry data to a repository, changed while sessions run: one that is added opens it at once, one that is taken away ends what it
 * carries, and then lets go of the repository.
 */
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { RepositoryRow, RepositoryStore } from '../catalogue/repository-store';
import { namedGateways, preferredGateways, serves } from '../data-paths/candidates';
import type { PreferredGateway } from '../data-paths/candidates';
import { HostErrors } from '../errors/host-errors';
import type { Platforms } from '../inventory/platforms';
import type { MoverConnections } from '../registry/mover-connections';
import type { MoverRegistry } from '../registry/mover-registry';
import { asksForAccess, problemOf, type MoverProblem } from './repository-access';
import { addServerKey, type RepositoryMovers } from './repository-movers';
import type { RepositorySecrets } from './repository-secrets';
import { allOf } from './retried-work';

export interface GatewaysChange {
  /** Ids or host names instead of those of before; empty: every gateway; null: none. */
  readonly gateways?: readonly string[] | null | undefined;
  readonly addGateways?: readonly string[] | undefined;
  readonly removeGateways?: readonly string[] | undefined;
  /** Best first; empty: none any more. */
  readonly preferredGateways?:
    readonly { readonly gateway: string; readonly cluster?: string | undefined; readonly platform?: string | undefined }[] | undefined;
}

export type Serving = Pick<RepositoryRow, 'gatewaysJson' | 'preferredGatewaysJson'>;

export class RepositoryGateways {
  /** Movers that still have a session of a repository that they may serve no longer. A server that starts again learns it when they register. */
  readonly #leaving = new Map<string, Set<string>>();

  constructor(
    private readonly store: RepositoryStore,
    private readonly movers: MoverConnections,
    private readonly registry: MoverRegistry,
    private readonly serving: RepositoryMovers,
    private readonly secrets: RepositorySecrets,
    private readonly platforms: Pick<Platforms, 'list' | 'row' | 'targets'>,
  ) {}

  /** What a change would come to; undefined when it names no gateway. Throws ARGUMENT_INVALID, MOVER_NOT_FOUND, TARGET_NOT_FOUND, TARGET_AMBIGUOUS. */
  async planned(row: RepositoryRow, change: GatewaysChange): Promise<Serving | undefined> {
    const { gateways, addGateways, removeGateways, preferredGateways: preferred } = change;
    if (gateways === undefined && !addGateways && !removeGateways && !preferred) return undefined;
    const gatewaysJson = await this.#gatewaysJson(row, change);
    const next = { ...row, gatewaysJson };
    const field = gateways === undefined && removeGateways ? 'removeGateways' : 'gateways';
    if ((await this.serving.serving(next)).length === 0)
      throw invalid(field, 'nobody would be left who may carry data to it; add a gateway first');
    const preferences = preferred ? await this.#preferences(preferred) : preferredGateways(row);
    const may = new Set((await this.serving.serving(next)).map(({ identity }) => identity.id));
    for (const { moverId } of preferred ? preferences : [])
      if (!may.has(moverId)) throw invalid('preferredGateways', `${moverId} may not carry data to it; add it first`);
    const kept = preferences.filter(({ moverId }) => may.has(moverId));
    return { gatewaysJson, preferredGatewaysJson: kept.length === 0 ? null : JSON.stringify(kept) };
  }

  /** Throws ARGUMENT_INVALID when gateways would lack what opens the repository. */
  checkSecrets(row: RepositoryRow, next: Serving, isAccessGiven: boolean): void {
    if (next.gatewaysJson === null || next.gatewaysJson === row.gatewaysJson || isAccessGiven || !asksForAccess(row.location)) return;
    if (!this.secrets.open(row).access)
      throw invalid('access', 'the server does not keep the access key of this repository, which gateways need; give it with them');
  }

  /** Keeps the change, has gateways that are new open the repository, and those that are gone let go of it. */
  async change(row: RepositoryRow, next: Serving): Promise<MoverProblem[]> {
    const before = await this.serving.serving(row);
    const sealedJson = await this.#secretsFor(row, next);
    const changed = { ...row, ...next, sealedJson };
    await this.store.setServing(row.id, { ...next, sealedJson });
    const now = await this.serving.serving(changed);
    const problems: MoverProblem[] = [];
    for (const mover of namedGateways(next)?.length === 0 ? [] : now) {
      if (before.some(({ identity }) => identity.id === mover.identity.id) || !mover.connected) continue;
      try {
        await this.serving.at(changed, mover.identity.id);
      } catch (thrown) {
        problems.push(problemOf(mover, toTidemarkError(thrown, 'opening a repository at a gateway')));
      }
    }
    for (const mover of before) {
      if (now.some(({ identity }) => identity.id === mover.identity.id)) continue;
      try {
        await this.#letGo(row.id, mover.identity.id);
      } catch (thrown) {
        problems.push(problemOf(mover, toTidemarkError(thrown, 'letting go of a repository')));
      }
    }
    return problems;
  }

  /** A mover came (back): it lets go of what it may serve no longer. Throws when it does not, for whatever reason but a session. */
  async moverCame(moverId: string): Promise<void> {
    const mover = (await this.registry.list()).find(({ identity }) => identity.id === moverId);
    if (!mover) return;
    const others = (await this.store.all()).filter((row) => !serves(mover, row));
    await allOf(others.map((row) => this.#letGo(row.id, moverId)));
  }

  /** Ids of movers that a session kept from letting go of a repository. */
  leaving(repositoryId: string): string[] {
    return [...(this.#leaving.get(repositoryId) ?? [])];
  }

  async #letGo(repositoryId: string, moverId: string): Promise<void> {
    const leaving = this.#leaving.get(repositoryId) ?? new Set();
    leaving.delete(moverId);
    if (leaving.size === 0) this.#leaving.delete(repositoryId);
    try {
      const mover = await this.movers.of(moverId);
      await mover.repositories.call('DetachRepository', { repositoryId }, { deadlineMs: 30_000 });
    } catch (error) {
      if (hasCode(error, 'REPOSITORY_IN_USE')) this.#leaving.set(repositoryId, leaving.add(moverId));
      // One that is away is told when it comes back.
      else if (!hasCode(error, 'MOVER_LOST', 'MOVER_NOT_FOUND')) throw error;
    }
  }

  async #gatewaysJson(row: RepositoryRow, { gateways, addGateways = [], removeGateways = [] }: GatewaysChange): Promise<string | null> {
    if (gateways === null) return null;
    if (gateways !== undefined) return JSON.stringify(await this.serving.idsOf(gateways));
    if (addGateways.length === 0 && removeGateways.length === 0) return row.gatewaysJson;
    const now = namedGateways(row);
    if (now?.length === 0)
      throw invalid(
        addGateways.length > 0 ? 'addGateways' : 'removeGateways',
        'every gateway may carry data to it now; name those that may',
      );
    const [added, removed] = [await this.serving.idsOf(addGateways), await this.serving.idsOf(removeGateways)];
    const stranger = removed.findIndex((id) => now?.includes(id) !== true);
    if (stranger >= 0) throw invalid('removeGateways', `${removeGateways[stranger]} is none of its gateways`);
    const left = [...new Set([...(now ?? []), ...added])].filter((id) => !removed.includes(id));
    // An empty list would mean every gateway.
    return left.length === 0 ? null : JSON.stringify(left);
  }

  async #preferences(asked: NonNullable<GatewaysChange['preferredGateways']>): Promise<PreferredGateway[]> {
    const found: PreferredGateway[] = [];
    for (const { gateway, cluster, platform } of asked) {
      const [moverId = ''] = await this.serving.idsOf([gateway]);
      found.push({ moverId, cluster: cluster === undefined ? null : await this.#cluster(cluster, platform) });
    }
    return found;
  }

  /** By id or name, on the platform named or on any. */
  async #cluster(name: string, platform: string | undefined): Promise<NonNullable<PreferredGateway['cluster']>> {
    const rows = platform === undefined ? (await this.platforms.list()).map(({ row }) => row) : [await this.platforms.row(platform)];
    const found = [];
    for (const { id: platformId } of rows) {
      const { clusters } = await this.platforms.targets(platformId);
      for (const one of clusters) if (one.id === name || one.name === name) found.push({ platformId, clusterId: one.id, name: one.name });
    }
    if (found.length > 1) throw HostErrors.TARGET_AMBIGUOUS({ field: 'cluster', name, count: found.length });
    if (!found[0]) throw HostErrors.TARGET_NOT_FOUND({ field: 'cluster', name });
    return found[0];
  }

  /** An encrypted repository gets a key slot of the server's own when its first gateway comes. */
  async #secretsFor(row: RepositoryRow, next: Serving): Promise<string | null> {
    const secrets = this.secrets.open(row);
    if (next.gatewaysJson === null || next.gatewaysJson === row.gatewaysJson || secrets.key) return row.sealedJson;
    const { mover, known } = await this.serving.reach(row);
    if (!known.encrypted) return row.sealedJson;
    return this.secrets.seal(row.id, { ...secrets, key: await addServerKey(mover, known) });
  }
}

function invalid(field: string, problem: string) {
  return CommonErrors.ARGUMENT_INVALID({ field, problem });
}
