import { hasCode } from '../../common/errors/tidemark-error';
import type { Store } from './store';

/** True when an object exists, whatever is in it. Throws as `Store.sizeOf`. */
export async function isThere(store: Store, name: string): Promise<boolean> {
  try {
    await store.sizeOf(name);
    return true;
  } catch (error) {
    if (hasCode(error, 'OBJECT_NOT_FOUND')) return false;
    throw error;
  }
}
