import { readPlans } from '../../repository/sharing/collection-plans';
import type { Repository } from '../../repository/repository';

/** What collections are about to do, and when one last did something. */
export interface CollectSummary {
  readonly condemnedBytes: number;
  readonly lastCollectedAt: Date | undefined;
  /** Of each removed point that is condemned, when it may be deleted. */
  readonly deletedAfter: ReadonlyMap<string, Date>;
}

/** Leaves damaged plans out. Throws as the store. */
export async function collectSummary({ store, keys }: Repository): Promise<CollectSummary> {
  let condemnedBytes = 0;
  let last = 0;
  const deletedAfter = new Map<string, Date>();
  for await (const plan of readPlans(store, keys, () => undefined)) {
    last = Math.max(last, Date.parse(plan.endedAt ?? plan.createdAt));
    if (plan.state !== 'condemned' && plan.state !== 'deleting') continue;
    for (const { length } of plan.packs) condemnedBytes += length;
    for (const pointId of plan.points) deletedAfter.set(pointId, new Date(plan.deleteAfter));
  }
  return { condemnedBytes, lastCollectedAt: last === 0 ? undefined : new Date(last), deletedAfter };
}
