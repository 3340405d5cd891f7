import type { PlacementPolicy } from './ports';
import type { Placement } from './tasks';

/** A place where only so many tasks may run at the same time. */
export interface LimitedPlace {
  readonly key: string;
  readonly limit: number;
  readonly reason: 'platform-slots' | 'host-slots' | 'storage-slots';
}

/** Where a task counts: once per host, storage domain and platform, however many disks it has. The first one that is full is told. */
export function limitedPlaces(placement: Placement, policy: PlacementPolicy): readonly LimitedPlace[] {
  const { platformId, hostId, storageDomainIds } = placement;
  if (platformId === '') return [];
  const atLeastOne = (limit: number) => Math.max(1, limit);
  return [
    ...(hostId ? [{ key: `host ${platformId} ${hostId}`, limit: atLeastOne(policy.tasksPerHost), reason: 'host-slots' as const }] : []),
    ...[...new Set(storageDomainIds)].map((id) => ({
      key: `domain ${platformId} ${id}`,
      limit: atLeastOne(policy.tasksPerStorageDomain),
      reason: 'storage-slots' as const,
    })),
    { key: `platform ${platformId}`, limit: atLeastOne(policy.tasksPerPlatform), reason: 'platform-slots' },
  ];
}

/** How often something is taken. */
export class Tally {
  readonly #counts = new Map<string, number>();

  of(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  /** Takes all; the answer gives them back, once. */
  take(keys: readonly string[]): () => void {
    for (const key of keys) this.#counts.set(key, this.of(key) + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      for (const key of keys) {
        const left = this.of(key) - 1;
        if (left > 0) this.#counts.set(key, left);
        else this.#counts.delete(key);
      }
    };
  }
}
