/** The drafts of sessions in the store: finding, reading and deleting them. For whoever owns a session, and for maintenance. */
import { blockDigest, isZero } from '../format/block';
import { decodeDraft, DRAFT_PREFIX, draftPlaceOf, type DraftHead, type DraftPlace, type MappedPage } from '../format/draft-record';
import type { RepositoryKeys } from '../repository/keys/repository-keys';
import { readDocument } from '../repository/read-document';
import type { Store } from '../stores/store';

/** Far more than a draft has; see draft-log.ts. */
const maxDraftBytes = 16 * 1024 * 1024;

export interface FoundDraft extends DraftPlace {
  readonly name: string;
}

/** Drafts of one session or (empty) of all, in the order in which they were written. Throws as `Store.list`. */
export async function listDrafts(store: Store, sessionId = ''): Promise<FoundDraft[]> {
  const found: FoundDraft[] = [];
  for await (const name of store.list(DRAFT_PREFIX)) {
    const place = draftPlaceOf(name);
    if (place && (sessionId === '' || place.sessionId === sessionId)) found.push({ ...place, name });
  }
  return found.sort((a, b) => a.generation - b.generation || a.sequence - b.sequence);
}

/** Undefined when it is gone. Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN, and as `Store.readWhole`. */
export async function readDraft(
  store: Store,
  name: string,
  keys: RepositoryKeys | undefined,
): Promise<{ readonly head: DraftHead; readonly pages: MappedPage[] } | undefined> {
  return (await readDocument(store, keys, name, maxDraftBytes, decodeDraft))?.content;
}

/**
 * Digests of the blocks that the drafts of a session refer to, some more than once, with at most one draft in memory. For a mark: read a session's drafts
 * before its record, and the record before the manifests, so that a disk that is committed meanwhile is seen in one of them; a draft
 * that goes away meanwhile is no error. A block of a draft may be missing: the session finds that out at its commit and has it sent again.
 * Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN, and as `Store.list` and `Store.readWhole`.
 */
export async function* readDraftDigests(store: Store, sessionId: string, keys: RepositoryKeys | undefined): AsyncGenerator<Buffer> {
  for (const { name } of await listDrafts(store, sessionId)) {
    const draft = await readDraft(store, name, keys);
    for (const { digests } of draft?.pages ?? []) for (const digest of digests) if (!isZero(digest)) yield digest;
  }
}

/** Throws as `Store.list` and `Store.delete`. */
export async function deleteDrafts(store: Store, sessionId: string): Promise<void> {
  for (const { name } of await listDrafts(store, sessionId)) await store.delete(name);
}

/** Names a disk within its session's drafts, without telling its id. */
export function draftDiskKey(digestKey: Buffer, diskId: string): string {
  return blockDigest(digestKey, Buffer.from(diskId)).toString('hex', 0, 8);
}
