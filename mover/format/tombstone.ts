/** Tombstones: a point that was removed and can be taken back until its collection deletes it, as docs/formats/concurrency.md has them. Pure. */
import { z } from 'zod';
import { RepositoryErrors } from '../errors/mover-errors';
import type { DocumentCipher } from './document-cipher';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKTOMB', version: 1, encryptedVersion: 2 };
export const TOMBSTONE_PREFIX = 'removed/';

const schema = z.object({ pointId: z.string(), removedAt: z.iso.datetime() });

export type Tombstone = z.infer<typeof schema>;

/** `cipher` is that of the tombstone's name in an encrypted repository. */
export function encodeTombstone(tombstone: Tombstone, cipher?: DocumentCipher): Buffer {
  return sealDocument(kind, [{ codec: 'none', content: Buffer.from(JSON.stringify(tombstone)) }], cipher);
}

/** Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeTombstone(bytes: Buffer, name: string, cipher?: DocumentCipher): Tombstone {
  const [content] = openDocument(kind, bytes, name, undefined, cipher);
  const parsed = schema.safeParse(JSON.parse((content as Buffer).toString('utf8')));
  if (!parsed.success || tombstoneName(parsed.data.pointId) !== name)
    throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is not the tombstone of its point' });
  return parsed.data;
}

export function tombstoneName(pointId: string): string {
  return `${TOMBSTONE_PREFIX}${pointId}.tombstone`;
}

/** Point id of a tombstone's name; undefined for foreign names. */
export function tombstoneOf(name: string): string | undefined {
  return /^removed\/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.tombstone$/.exec(name)?.[1];
}
