/** Documents of the host in a repository. Each is one object that is replaced whole, so that neither a crash nor another mover leaves half of one. */
import { CommonErrors } from '../../common/errors/common-errors';
import { DocumentErrors } from '../errors/document-errors';
import {
  decodeHostDocument,
  encodeHostDocument,
  HOST_DOCUMENT_PREFIX,
  hostDocumentNameOf,
  hostDocumentObject,
  isHostDocumentFolder,
  isHostDocumentName,
  MAX_HOST_DOCUMENT_BYTES,
  type HostDocument,
} from '../format/host-document';
import { readDocument } from '../repository/read-document';
import type { Repository } from '../repository/repository';

type Opened = Pick<Repository, 'store' | 'keys'>;

const maxObjectBytes = MAX_HOST_DOCUMENT_BYTES + 64 * 1024;

/** Throws ARGUMENT_INVALID, REPOSITORY_LOCK_LOST, and as `Store.put`: the older content stays then, or the new one is there already. */
export async function putDocument(
  repository: Opened & Pick<Repository, 'assertWritable'>,
  document: Omit<HostDocument, 'writtenAt'>,
  now: Date,
): Promise<void> {
  const object = objectOf(document.name);
  if (document.content.length > MAX_HOST_DOCUMENT_BYTES)
    throw CommonErrors.ARGUMENT_INVALID({ field: 'content', problem: `it is longer than ${MAX_HOST_DOCUMENT_BYTES} bytes` });
  await repository.assertWritable();
  const bytes = encodeHostDocument({ ...document, writtenAt: now.toISOString() }, repository.keys?.document(object));
  await repository.store.put(object, bytes);
}

/** Names in a folder, sorted. Throws ARGUMENT_INVALID, and as `Store.list`. */
export async function listDocuments({ store }: Opened, folder: string): Promise<string[]> {
  if (!isHostDocumentFolder(folder))
    throw CommonErrors.ARGUMENT_INVALID({ field: 'folder', problem: 'it is no folder name of a-z, 0-9, ".", "_" and "-"' });
  const names: string[] = [];
  for await (const object of store.list(`${HOST_DOCUMENT_PREFIX}${folder}/`)) {
    const name = hostDocumentNameOf(object);
    if (name !== undefined) names.push(name);
  }
  return names.sort();
}

/** Throws ARGUMENT_INVALID, DOCUMENT_NOT_FOUND, OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export async function getDocument({ store, keys }: Opened, name: string): Promise<HostDocument> {
  const found = await readDocument(store, keys, objectOf(name), maxObjectBytes, decodeHostDocument);
  if (!found) throw DocumentErrors.DOCUMENT_NOT_FOUND({ name });
  return found.content;
}

/** Fine when it is not there. Throws ARGUMENT_INVALID, REPOSITORY_LOCK_LOST. */
export async function removeDocument(repository: Opened & Pick<Repository, 'assertWritable'>, name: string): Promise<void> {
  const object = objectOf(name);
  await repository.assertWritable();
  await repository.store.delete(object);
}

function objectOf(name: string): string {
  if (!isHostDocumentName(name))
    throw CommonErrors.ARGUMENT_INVALID({ field: 'name', problem: 'it is no "<folder>/<name>" of a-z, 0-9, ".", "_" and "-"' });
  return hostDocumentObject(name);
}
