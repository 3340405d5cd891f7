/** The plans of a repository's collections, read and replaced; see docs/formats/concurrency.md. */
import { hasCode } from '../../../common/errors/tidemark-error';
import {
  decodePlan,
  encodePlan,
  MAX_PLAN_BYTES,
  PLAN_PREFIX,
  planName,
  planNumberOf,
  type CollectionPlan,
} from '../../format/collection-plan';
import type { Store } from '../../stores/store';
import { readDocument, type StoredDocument } from '../read-document';
import type { RepositoryKeys } from '../keys/repository-keys';

export type StoredPlan = StoredDocument<CollectionPlan>;

/** All plans, oldest first. Of one that cannot be read, so that what it condemned is not known, `damaged` is told. Throws as `Store.readWhole`. */
export async function* readPlans(
  store: Store,
  keys: RepositoryKeys | undefined,
  damaged: (error: unknown) => void,
): AsyncGenerator<CollectionPlan> {
  for await (const { content } of readStoredPlans(store, keys, damaged)) yield content;
}

/**
 * As `readPlans`, with each plan's bytes. One that is deleted meanwhile is left out. Without `damaged` it throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN
 * for a plan that cannot be read.
 */
export async function* readStoredPlans(
  store: Store,
  keys?: RepositoryKeys,
  damaged: (error: unknown) => void = (error) => {
    throw error;
  },
): AsyncGenerator<StoredPlan> {
  const names: string[] = [];
  for await (const name of store.list(PLAN_PREFIX)) if (planNumberOf(name) !== undefined) names.push(name);
  for (const name of names.sort()) {
    const found = await readDocument(store, keys, name, MAX_PLAN_BYTES, decodePlan).catch((error: unknown) => {
      if (!hasCode(error, 'OBJECT_DAMAGED') && !hasCode(error, 'REPOSITORY_FORMAT_UNKNOWN')) throw error;
      damaged(error);
      return undefined;
    });
    if (found) yield found;
  }
}

/** Writes a new plan; false when its number is taken. */
export function putPlan(store: Store, plan: CollectionPlan, keys?: RepositoryKeys): Promise<boolean> {
  const name = planName(plan.number);
  return store.putNew(name, encodePlan(plan, keys?.document(name)));
}

/** Replaces a plan; undefined when somebody else has replaced it. */
export async function swapPlan(store: Store, from: StoredPlan, to: CollectionPlan, keys?: RepositoryKeys): Promise<StoredPlan | undefined> {
  const name = planName(to.number);
  const bytes = encodePlan(to, keys?.document(name));
  return (await store.swap(name, from.bytes, bytes)) ? { content: to, bytes } : undefined;
}
