/** The plans of a repository's collections, read and replaced; see docs/formats/concurrency.md. */
import { isTidemarkError, type TidemarkError } from '../../../common/errors/tidemark-error';
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
  damaged: (error: TidemarkError) => void,
): AsyncGenerator<CollectionPlan> {
  for await (const { content } of readStoredPlans(store, keys, damaged)) yield content;
}

/**
 * As `readPlans`, with each plan's bytes. One that is deleted meanwhile is left out. Of one that cannot be read (OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN) `damaged`
 * is told with its number.
 */
export async function* readStoredPlans(
  store: Store,
  keys: RepositoryKeys | undefined,
  damaged: (error: TidemarkError, number: number) => void,
): AsyncGenerator<StoredPlan> {
  const names: string[] = [];
  for await (const name of store.list(PLAN_PREFIX)) if (planNumberOf(name) !== undefined) names.push(name);
  for (const name of names.sort()) {
    const number = planNumberOf(name) ?? 0;
    const found = await readDocument(store, keys, name, MAX_PLAN_BYTES, decodePlan).catch((error: unknown) => {
      if (!isTidemarkError(error) || !['OBJECT_DAMAGED', 'REPOSITORY_FORMAT_UNKNOWN'].includes(error.code)) throw error;
      damaged(error, number);
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

/** Writes a plan in the place of one that cannot be read. */
export async function overwritePlan(store: Store, plan: CollectionPlan, keys?: RepositoryKeys): Promise<void> {
  const name = planName(plan.number);
  await store.put(name, encodePlan(plan, keys?.document(name)));
}

/** Replaces a plan; undefined when somebody else has replaced it. */
export async function swapPlan(store: Store, from: StoredPlan, to: CollectionPlan, keys?: RepositoryKeys): Promise<StoredPlan | undefined> {
  const name = planName(to.number);
  const bytes = encodePlan(to, keys?.document(name));
  return (await store.swap(name, from.bytes, bytes)) ? { content: to, bytes } : undefined;
}
