/** The plans of a repository's collections, read and replaced; see docs/formats/concurrency.md. */
import { hasCode } from '../../common/errors/tidemark-error';
import {
  decodePlan,
  encodePlan,
  MAX_PLAN_BYTES,
  PLAN_PREFIX,
  planName,
  planNumberOf,
  type CollectionPlan,
} from '../format/collection-plan';
import type { Store } from '../stores/store';
import type { RepositoryKeys } from './repository-keys';

/** A plan and the bytes it stands in the store with, which a `swap` has to name. */
export interface StoredPlan {
  readonly plan: CollectionPlan;
  readonly bytes: Buffer;
}

/** All plans, oldest first. Throws OBJECT_DAMAGED for one that cannot be read: what it condemned is not known then. Throws as `Store.readWhole`. */
export async function* readPlans(store: Store, keys?: RepositoryKeys): AsyncGenerator<CollectionPlan> {
  for await (const { plan } of readStoredPlans(store, keys)) yield plan;
}

/** As `readPlans`, with each plan's bytes. One that is deleted meanwhile is left out. */
export async function* readStoredPlans(store: Store, keys?: RepositoryKeys): AsyncGenerator<StoredPlan> {
  const names: string[] = [];
  for await (const name of store.list(PLAN_PREFIX)) if (planNumberOf(name) !== undefined) names.push(name);
  for (const name of names.sort()) {
    const bytes = await readIfThere(store, name);
    if (bytes) yield { plan: await opened(bytes, name, keys), bytes };
  }
}

/** Writes a new plan; false when its number is taken. */
export function putPlan(store: Store, plan: CollectionPlan, keys?: RepositoryKeys): Promise<boolean> {
  const name = planName(plan.number);
  return store.putNew(name, encodePlan(plan, keys?.document(name)));
}

/** Replaces a plan; false when somebody else has replaced it. */
export async function swapPlan(store: Store, from: StoredPlan, to: CollectionPlan, keys?: RepositoryKeys): Promise<StoredPlan | undefined> {
  const name = planName(to.number);
  const bytes = encodePlan(to, keys?.document(name));
  return (await store.swap(name, from.bytes, bytes)) ? { plan: to, bytes } : undefined;
}

async function readIfThere(store: Store, name: string): Promise<Buffer | undefined> {
  try {
    return await store.readWhole(name, MAX_PLAN_BYTES);
  } catch (error) {
    if (hasCode(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
}

/** Another mover may have rotated the keys since they were read here. */
async function opened(bytes: Buffer, name: string, keys: RepositoryKeys | undefined): Promise<CollectionPlan> {
  try {
    return decodePlan(bytes, name, keys?.document(name));
  } catch (error) {
    if (!keys || !hasCode(error, 'OBJECT_DAMAGED')) throw error;
    await keys.reload();
    return decodePlan(bytes, name, keys.document(name));
  }
}
