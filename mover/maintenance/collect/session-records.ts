/** The sessions of all movers of a repository, as their records tell it. */
import { hasCode } from '../../../common/errors/tidemark-error';
import { decodeSession, SESSION_PREFIX, sessionIdOf, type SessionRecord } from '../../format/session-record';
import { readDocument, type StoredDocument } from '../../repository/read-document';
import type { Repository } from '../../repository/repository';

const maxRecordBytes = 16 * 1024 * 1024;

/** Ids of all sessions that have a record. */
export async function sessionIds({ store }: Repository): Promise<string[]> {
  const ids: string[] = [];
  for await (const name of store.list(SESSION_PREFIX)) {
    const id = sessionIdOf(name);
    if (id !== undefined) ids.push(id);
  }
  return ids;
}

/**
 * One record by its object's name; undefined when it is gone, or damaged: such a session cannot go on (docs/formats/session.md). Throws REPOSITORY_FORMAT_UNKNOWN,
 * and as `Store.readWhole`.
 */
export async function readSession({ store, keys }: Repository, name: string): Promise<StoredDocument<SessionRecord> | undefined> {
  try {
    return await readDocument(store, keys, name, maxRecordBytes, decodeSession);
  } catch (error) {
    if (hasCode(error, 'OBJECT_DAMAGED')) return undefined;
    throw error;
  }
}
