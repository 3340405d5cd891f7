import type { Worker__Output } from '../../proto/gen/tidemark/plugin/v1/Worker';
import type { Logger } from '../../common/log/logger';
import type { Fleet } from './fleet';
import { checkOf, verdictOf } from './self-test';

export type Reach = 'reached' | 'unreached' | 'unknown';

/** A plug-in is not asked more often than this. */
const rememberMs = 15_000;

/** Which movers the workers of a cluster reach, by their last self-tests. A plug-in that cannot be asked leaves it unknown. */
export class MoverReach {
  #known: { readonly at: number; readonly workers: Promise<readonly Worker__Output[]> } | undefined;

  constructor(
    private readonly fleet: Pick<Fleet, 'list'>,
    private readonly logger: Logger,
    private readonly now: () => Date,
  ) {}

  /** A judge of movers by their data endpoints. */
  async of(platformId: string, clusterId: string): Promise<(endpoints: readonly string[]) => Reach> {
    const workers = nearest(await this.#workers(), platformId, clusterId);
    return (endpoints) => reachOf(workers, endpoints);
  }

  #workers(): Promise<readonly Worker__Output[]> {
    const at = this.now().getTime();
    if (this.#known && at - this.#known.at < rememberMs) return this.#known.workers;
    const workers = this.fleet.list().then(
      (all) => all.map(({ worker }) => worker),
      (error: unknown) => {
        this.logger.info('workers could not be asked which movers they reach', { error });
        return [];
      },
    );
    this.#known = { at, workers };
    return workers;
  }
}

/** Those that a task would go to: of its cluster; where there is none, beside the server. */
export function nearest(workers: readonly Worker__Output[], platformId: string, clusterId: string): Worker__Output[] {
  const ready = workers.filter(({ state }) => state === 'connected');
  const own = ready.filter((worker) => clusterId !== '' && worker.platformId === platformId && worker.clusterId === clusterId);
  return own.length > 0 ? own : ready.filter((worker) => worker.clusterId === '');
}

/** Reached when one of them reached it; unreached when all that tried did not. */
export function reachOf(workers: readonly Worker__Output[], endpoints: readonly string[]): Reach {
  let reach: Reach = 'unknown';
  for (const { selfTest } of workers) {
    for (const cell of selfTest?.cells ?? []) {
      if (checkOf(cell.check) !== 'mover' || !endpoints.includes(cell.target)) continue;
      if (verdictOf(cell.verdict) !== 'failed') return 'reached';
      reach = 'unreached';
    }
  }
  return reach;
}
