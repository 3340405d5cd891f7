/** Documents that the host keeps in a repository, as docs/formats/document.md has them. What is in one is the host's business. Pure. */
import { z } from 'zod';
import { RepositoryErrors } from '../errors/mover-errors';
import type { DocumentCipher } from './document-cipher';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKHOST', version: 1, encryptedVersion: 2 };
export const HOST_DOCUMENT_PREFIX = 'documents/';
/** Bytes of content; well below what a sealed document and a gRPC message take. */
export const MAX_HOST_DOCUMENT_BYTES = 32 * 1024 * 1024;

const schema = z.object({ name: z.string(), writtenAt: z.iso.datetime() });

export interface HostDocument {
  /** `<folder>/<name>`. */
  readonly name: string;
  /** ISO 8601 UTC, by the clock of the mover that wrote it. */
  readonly writtenAt: string;
  readonly content: Buffer;
}

/** `cipher` is that of the object's name in an encrypted repository. */
export function encodeHostDocument({ name, writtenAt, content }: HostDocument, cipher?: DocumentCipher): Buffer {
  if (content.length > MAX_HOST_DOCUMENT_BYTES) throw new RangeError(`a document of the host has at most ${MAX_HOST_DOCUMENT_BYTES} bytes`);
  return sealDocument(
    kind,
    [
      { codec: 'none', content: Buffer.from(JSON.stringify({ name, writtenAt })) },
      { codec: 'none', content },
    ],
    cipher,
  );
}

/** `object` is its name in the store. Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeHostDocument(bytes: Buffer, object: string, cipher?: DocumentCipher): HostDocument {
  const [head, content] = openDocument(kind, bytes, object, undefined, cipher);
  const parsed = schema.safeParse(head && jsonOf(head));
  if (!parsed.success || !content || hostDocumentObject(parsed.data.name) !== object)
    throw RepositoryErrors.OBJECT_DAMAGED({ object, problem: 'it is not the document of its name' });
  return { ...parsed.data, content };
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}

/** True for `<folder>/<name>` as the contract has it; these become names of objects. */
export function isHostDocumentName(name: string): boolean {
  return name.length <= 100 && /^[a-z0-9_-][a-z0-9._-]*\/[a-z0-9_-][a-z0-9._-]*$/.test(name);
}

export function isHostDocumentFolder(folder: string): boolean {
  return folder.length <= 98 && /^[a-z0-9_-][a-z0-9._-]*$/.test(folder);
}

export function hostDocumentObject(name: string): string {
  return `${HOST_DOCUMENT_PREFIX}${name}`;
}

/** `<folder>/<name>` of an object; undefined for foreign names. */
export function hostDocumentNameOf(object: string): string | undefined {
  const name = object.startsWith(HOST_DOCUMENT_PREFIX) ? object.slice(HOST_DOCUMENT_PREFIX.length) : '';
  return isHostDocumentName(name) ? name : undefined;
}
