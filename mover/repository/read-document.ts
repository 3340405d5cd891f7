import { hasCode } from '../../common/errors/tidemark-error';
import type { DocumentCipher } from '../format/document-cipher';
import type { Store } from '../stores/store';
import type { RepositoryKeys } from './keys/repository-keys';

/** Bytes to a document's content, as the codecs in mover/format have it. */
export type Decode<T> = (bytes: Buffer, name: string, cipher?: DocumentCipher) => T;

/** A document and the bytes it stands in the store with, which a `swap` has to name. */
export interface StoredDocument<T> {
  readonly content: T;
  readonly bytes: Buffer;
}

/**
 * A sealed document; undefined when it is not there. Another mover may have rotated the keys since they were read here: then they are read again.
 * Throws what `decode` throws, and as `Store.readWhole`.
 */
export async function readDocument<T>(
  store: Store,
  keys: RepositoryKeys | undefined,
  name: string,
  maxBytes: number,
  decode: Decode<T>,
): Promise<StoredDocument<T> | undefined> {
  let bytes: Buffer;
  try {
    bytes = await store.readWhole(name, maxBytes);
  } catch (error) {
    if (hasCode(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
  try {
    return { content: decode(bytes, name, keys?.document(name)), bytes };
  } catch (error) {
    if (!keys || !hasCode(error, 'OBJECT_DAMAGED')) throw error;
    await keys.reload();
    return { content: decode(bytes, name, keys.document(name)), bytes };
  }
}
