import type { RepositoryRow } from '../catalogue/repository-store';
import type { SessionStore } from '../catalogue/session-store';
import type { MoverRegistry, RegisteredMover } from '../registry/mover-registry';
import type { MoverReach } from '../workers/mover-reach';
import type { MoverLoads } from './mover-loads';
import type { Candidate } from './resolve';

/** What a session is for, as far as it bears on which mover is best. */
export interface PathWish {
  readonly platformId: string;
  readonly vmId: string;
  /** Where the worker would be; empty: unknown. */
  readonly clusterId: string;
  /** Movers that failed this session just now. */
  readonly failed: ReadonlySet<string>;
  /** Movers that a worker could not reach in this task. */
  readonly unreached: readonly string[];
}

/** A gateway that the administrator prefers, for workers of a cluster or for all. */
export interface PreferredGateway {
  readonly moverId: string;
  /** Null: for every cluster. */
  readonly cluster: { readonly platformId: string; readonly clusterId: string; readonly name: string } | null;
}

/** The movers that may serve a repository, with all that is known of them. */
export class Candidates {
  constructor(
    private readonly movers: Pick<MoverRegistry, 'list'>,
    private readonly loads: MoverLoads,
    private readonly reach: Pick<MoverReach, 'of'>,
    private readonly sessions: Pick<SessionStore, 'lastMover'>,
  ) {}

  /** For a session. */
  async of(row: RepositoryRow, wish: PathWish): Promise<Candidate[]> {
    const movers = servers(row, await this.movers.list());
    if (movers.length === 0) return [];
    const lastMover = movers.length > 1 ? await this.sessions.lastMover(row.id, wish.platformId, wish.vmId) : undefined;
    const reachOf = await this.reach.of(wish.platformId, wish.clusterId);
    const preferred = preferencesFor(row, wish);
    return movers.map((mover) => {
      const { id } = mover.identity;
      return {
        ...this.#candidate(row, mover, nameOf(mover, movers)),
        draining: mover.drainingSince !== null,
        reach: wish.unreached.includes(id) ? 'unreached' : reachOf(endpointsOf(mover)),
        failed: wish.failed.has(id),
        usedLast: id === lastMover,
        preference: preferred.find(({ moverId }) => moverId === id),
      };
    });
  }

  /** For a call that opens no session: those that are drained will do too. */
  async forCalls(row: RepositoryRow, failed: ReadonlySet<string>): Promise<Candidate[]> {
    return servers(row, await this.movers.list()).map((mover, _at, movers) => ({
      ...this.#candidate(row, mover, nameOf(mover, movers)),
      failed: failed.has(mover.identity.id),
    }));
  }

  #candidate(row: RepositoryRow, { identity, connected }: RegisteredMover, name: string): Candidate {
    return {
      moverId: identity.id,
      name,
      role: identity.id === row.moverId ? 'own' : 'gateway',
      connected,
      draining: false,
      reach: 'unknown',
      failed: false,
      openSessions: this.loads.of(identity.id),
      usedLast: false,
      preference: undefined,
    };
  }
}

/** What the administrator prefers, best first; empty when nothing was said. */
export function preferredGateways({ preferredGatewaysJson }: Pick<RepositoryRow, 'preferredGatewaysJson'>): PreferredGateway[] {
  return preferredGatewaysJson === null ? [] : (JSON.parse(preferredGatewaysJson) as PreferredGateway[]);
}

/** Those that count for a wish: what is said for its cluster comes before what is said for all. */
function preferencesFor(row: RepositoryRow, { platformId, clusterId }: PathWish) {
  const all = preferredGateways(row);
  const here = all.filter(({ cluster }) => cluster?.platformId === platformId && cluster.clusterId === clusterId);
  const everywhere = all.filter(({ cluster }) => cluster === null);
  return [...here, ...everywhere].map(({ moverId, cluster }, rank) => ({ moverId, rank, clusterName: cluster?.name ?? null }));
}

/** Ids of the gateways that a repository names; empty: every one; undefined: none carries data to it. */
export function namedGateways({ gatewaysJson }: Pick<RepositoryRow, 'gatewaysJson'>): string[] | undefined {
  return gatewaysJson === null ? undefined : (JSON.parse(gatewaysJson) as string[]);
}

/** True when a mover may serve a repository. */
export function serves({ identity, gateway }: RegisteredMover, row: Pick<RepositoryRow, 'moverId' | 'gatewaysJson'>): boolean {
  if (identity.id === row.moverId) return true;
  const named = namedGateways(row);
  return named !== undefined && (named.length === 0 ? gateway : named.includes(identity.id));
}

function servers(row: RepositoryRow, all: readonly RegisteredMover[]): RegisteredMover[] {
  return all.filter((mover) => serves(mover, row));
}

/** Its host's name; with its data port where one machine has several. */
function nameOf(mover: RegisteredMover, all: readonly RegisteredMover[]): string {
  const hostOf = ({ identity, process }: RegisteredMover) => process?.hostName ?? identity.hostName;
  const isUnique = all.filter((one) => hostOf(one) === hostOf(mover)).length === 1;
  const [endpoint] = endpointsOf(mover);
  return isUnique || endpoint === undefined ? hostOf(mover) : `${hostOf(mover)} (${endpoint})`;
}

function endpointsOf({ registration }: RegisteredMover): readonly string[] {
  return registration ? (JSON.parse(registration.dataEndpointsJson) as string[]) : [];
}
