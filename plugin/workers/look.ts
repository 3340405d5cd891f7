import type { ConnectedFleet } from './connected-fleet';
import { hopTo } from './hops';
import type { Candidate } from './hops';
import type { Expectation, PlacementPolicy, WorkerSupply } from './ports';
import type { Placement } from './tasks';

/** One look at workers and rules: asked once per placement, however many wait. */
export class Look {
  readonly #candidates = new Map<string, readonly Candidate[]>();
  readonly #expectations = new Map<string, Expectation>();

  constructor(
    private readonly fleet: ConnectedFleet,
    private readonly supply: WorkerSupply,
  ) {}

  policy(platformId: string): PlacementPolicy {
    return this.supply.policy(platformId);
  }

  candidates(placement: Placement): readonly Candidate[] {
    const key = keyOf(placement);
    let known = this.#candidates.get(key);
    if (!known) {
      known = this.fleet.takers().flatMap((taker) => {
        if (!this.supply.admits(taker.workerId)) return [];
        const vm = this.supply.vmOf(taker.workerId);
        const hop = hopTo(placement, taker, vm);
        const { workerId, usedSlots, freeSlots, stuck } = taker;
        return hop === undefined ? [] : [{ workerId, vmId: vm?.vmId, hop, usedSlots, freeSlots, stuck }];
      });
      this.#candidates.set(key, known);
    }
    return known;
  }

  expectation(placement: Placement): Expectation {
    const key = keyOf(placement);
    let known = this.#expectations.get(key);
    if (!known) {
      known = this.supply.want(placement);
      this.#expectations.set(key, known);
    }
    return known;
  }

  /** A slot was taken: the workers are no longer as they were. */
  forget(): void {
    this.#candidates.clear();
  }
}

function keyOf({ platformId, clusterId, needsAttachment }: Placement): string {
  return JSON.stringify([platformId, clusterId, needsAttachment?.dataCenterId ?? '']);
}
