import fc from 'fast-check';
import { FakeSupply } from '../testing/fake-supply';
import { ManualClock, settled } from '../testing/manual-clock';
import { MemoryWorker } from '../testing/memory-worker';
import { quietLogger } from '../testing/quiet-logger';
import { defaultPlacementPolicy } from '../testing/beside-server-only';
import { ConnectedFleet } from './connected-fleet';
import { Dispatcher } from './dispatcher';
import type { Slot } from './dispatcher';
import { hopsOf, isAllowed } from './hops';
import { limitedPlaces } from './slot-limits';
import type { Placement } from './tasks';

/** What may happen, in any order; numbers pick one of those that are there. */
type Step =
  | { readonly do: 'arrive'; readonly placement: Placement }
  | { readonly do: 'release' | 'abort' | 'lane' | 'exchange' | 'lose' | 'drain' | 'resume'; readonly pick: number }
  | { readonly do: 'worker'; readonly clusterId: string; readonly slots: number }
  | { readonly do: 'rule'; readonly host: number; readonly domain: number; readonly platform: number; readonly farther: boolean }
  | { readonly do: 'hope'; readonly coming: boolean }
  | { readonly do: 'time'; readonly ms: number };

const few = fc.integer({ min: 1, max: 3 });
const pick = fc.nat(20);
const placements: fc.Arbitrary<Placement> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record({
      platformId: fc.constantFrom('p1', 'p1', 'p2'),
      clusterId: fc.constantFrom('c1', 'c2', ''),
      hostId: fc.constantFrom('h1', 'h2', undefined),
      storageDomainIds: fc.constantFrom([], ['d1'], ['d1', 'd2'], ['d2', 'd2']),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ platformId: '', clusterId: '' }) },
);
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: placements.map((placement) => ({ do: 'arrive' as const, placement })) },
  { weight: 5, arbitrary: pick.map((n) => ({ do: 'release' as const, pick: n })) },
  ...(['abort', 'lane', 'exchange', 'lose', 'drain', 'resume'] as const).map((what) => ({
    weight: 1,
    arbitrary: pick.map((n) => ({ do: what, pick: n })),
  })),
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('worker' as const), clusterId: fc.constantFrom('c1', 'c2', ''), slots: few }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('rule' as const), host: few, domain: few, platform: few, farther: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.boolean().map((coming) => ({ do: 'hope' as const, coming })) },
  { weight: 1, arbitrary: fc.constantFrom(1000, 61_000, 700_000).map((ms) => ({ do: 'time' as const, ms })) },
);

interface Held {
  readonly slot: Slot;
  readonly placement: Placement;
  readonly isLane: boolean;
}

interface Waiting {
  readonly placement: Placement;
  readonly abort: AbortController;
  readonly isExchange: boolean;
  reason: string;
}

class World {
  readonly clock = new ManualClock();
  readonly fleet = new ConnectedFleet(quietLogger().logger, undefined, this.clock);
  readonly supply = new FakeSupply();
  readonly dispatcher = new Dispatcher(this.fleet, this.supply, this.clock);
  readonly held = new Set<Held>();
  readonly waiting = new Set<Waiting>();
  readonly workers = new Map<string, MemoryWorker>();
  /** Granted since the last look. */
  readonly fresh = new Set<Held>();
  served = 0;
  refused = 0;
  asked = 0;
  #named = 0;

  async step(step: Step): Promise<void> {
    const one = <T>(of: Iterable<T>): T | undefined => ('pick' in step ? [...of][step.pick % Math.max(1, [...of].length)] : undefined);
    switch (step.do) {
      case 'arrive':
        this.#arrive(step.placement);
        break;
      case 'release': {
        const held = one(this.held);
        if (held) this.release(held);
        break;
      }
      case 'abort':
        one(this.waiting)?.abort.abort();
        break;
      case 'lane': {
        const held = one([...this.held].filter(({ isLane }) => !isLane));
        const slot = held && this.dispatcher.trySlot(held.placement, held.slot);
        if (slot) this.held.add({ slot, placement: held.placement, isLane: true });
        break;
      }
      case 'exchange': {
        const held = one([...this.held].filter(({ slot }) => !this.dispatcher.isUsable(slot)));
        if (held) this.#exchange(held);
        break;
      }
      case 'lose': {
        const lost = one(this.workers);
        lost?.[1].kill();
        if (lost) this.workers.delete(lost[0]);
        break;
      }
      case 'drain':
      case 'resume': {
        const id = one(this.workers.keys());
        if (id !== undefined) this.fleet[step.do](id);
        break;
      }
      case 'worker':
        this.worker(step.clusterId, step.slots);
        break;
      case 'rule':
        this.supply.rule({
          tasksPerHost: step.host,
          tasksPerStorageDomain: step.domain,
          tasksPerPlatform: step.platform,
          allowOtherClusters: step.farther,
          allowBesideServer: step.farther,
        });
        break;
      case 'hope':
        this.supply.expect(
          step.coming ? { kind: 'coming', reason: 'worker-starting' } : { kind: 'none', code: 'NO_ROOM', message: 'no room' },
        );
        break;
      case 'time':
        await this.clock.advance(step.ms);
    }
    await settled();
    this.check();
  }

  worker(clusterId: string, slots: number): void {
    const id = `w${(this.#named += 1)}`;
    const place = { platformId: clusterId === '' ? '' : 'p1', clusterId, capabilities: ['resume'] };
    this.workers.set(id, new MemoryWorker(this.fleet, id, slots, place));
  }

  release(held: Held): void {
    this.held.delete(held);
    held.slot.release();
    held.slot.release();
  }

  /** What must hold at any time. */
  check(): void {
    const counts = new Map<string, number>();
    const policy = this.supply.policy();
    for (const { placement, isLane } of this.held) {
      if (!isLane) for (const { key } of limitedPlaces(placement, policy)) counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    // A limit that was lowered is not exceeded by anything that was granted since.
    for (const { placement, slot } of this.fresh) {
      for (const { key, limit } of limitedPlaces(placement, policy)) expect([key, counts.get(key)! <= limit]).toEqual([key, true]);
      const nearest = slot.hop === hopsOf(placement)[0];
      expect({ nearest, allowed: isAllowed(placement, slot.hop, policy) }).toEqual({ nearest, allowed: true });
      expect(slot.hopReason === undefined).toBe(nearest);
    }
    this.fresh.clear();
    const slots = new Map(this.fleet.list().map(({ workerId, taskSlots }) => [workerId, taskSlots]));
    for (const { workerId, usedSlots } of this.fleet.connected()) {
      const inUse = [...this.held].filter(({ slot }) => slot.workerId === workerId).length;
      expect([workerId, usedSlots]).toEqual([workerId, inUse]);
      expect(usedSlots).toBeLessThanOrEqual(slots.get(workerId)!);
    }
    for (const { reason } of this.waiting) expect(reason).not.toBe('');
  }

  #arrive(placement: Placement): void {
    const waiting: Waiting = { placement, abort: new AbortController(), isExchange: false, reason: '' };
    this.asked += 1;
    this.waiting.add(waiting);
    this.dispatcher.slot({ placement, signal: waiting.abort.signal, waiting: (reason) => (waiting.reason = reason) }).then(
      (slot) => {
        this.waiting.delete(waiting);
        this.served += 1;
        const held = { slot, placement, isLane: false };
        this.held.add(held);
        this.fresh.add(held);
      },
      () => {
        this.waiting.delete(waiting);
        this.refused += 1;
      },
    );
  }

  #exchange(held: Held): void {
    const done = this.dispatcher.exchange(held.slot, new AbortController().signal);
    done.catch(() => undefined);
  }
}

describe('slots under anything that may happen', () => {
  it('are never over a limit, never leak, and everyone is served or told why not', async () => {
    let [served, refused] = [0, 0];
    const property = fc.asyncProperty(fc.array(steps, { minLength: 10, maxLength: 80 }), async (script) => {
      const world = new World();
      try {
        world.worker('', 2);
        await settled();
        for (const step of script) await world.step(step);
        // Everything is allowed, there is a worker for all, and those who have a slot let it go: nobody may be left.
        for (const id of world.workers.keys()) world.fleet.resume(id);
        world.worker('', 3);
        world.supply.rule(defaultPlacementPolicy);
        await world.step({ do: 'hope', coming: false });
        for (let round = 0; (world.waiting.size > 0 || world.held.size > 0) && round < 200; round += 1) {
          for (const held of [...world.held]) world.release(held);
          await world.step({ do: 'time', ms: 1000 });
        }
        expect([world.waiting.size, world.held.size]).toEqual([0, 0]);
        expect(world.served + world.refused).toBe(world.asked);
        expect(world.fleet.connected().filter(({ usedSlots }) => usedSlots > 0)).toEqual([]);
        // No place leaked: as many as the limit are served at once.
        world.worker('c9', 64);
        await settled();
        for (const hostId of ['h1', 'h2']) {
          for (let n = 0; n < 2; n += 1) {
            await world.step({
              do: 'arrive',
              placement: { platformId: 'p1', clusterId: 'c9', hostId, storageDomainIds: ['d1', 'd2'] },
            });
          }
        }
        expect([world.waiting.size, world.held.size]).toEqual([0, 4]);
        served += world.served;
        refused += world.refused;
      } finally {
        for (const worker of world.workers.values()) worker.kill();
        for (const waiting of world.waiting) waiting.abort.abort();
        await settled();
        world.fleet.stop();
      }
    });
    // Until the scripts have reached both ends, as they nearly always do at once.
    do await fc.assert(property, { numRuns: 60 });
    while (served <= 100 || refused <= 10);
  });
});
