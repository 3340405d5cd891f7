/** What a mover tells the other movers of a repository, as docs/formats/concurrency.md has it. Pure. */
import { z } from 'zod';
import { RepositoryErrors } from '../errors/mover-errors';
import type { DocumentCipher } from './document-cipher';
import { decodeIds, encodeIds } from './id-list';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKJRNL', version: 1, encryptedVersion: 2 };
export const JOURNAL_PREFIX = 'journal/';

const schema = z.object({
  announcedAt: z.iso.datetime(),
  /** Names of manifests written. */
  manifests: z.array(z.string()).default([]),
  /** Names of other objects that were made, replaced or deleted and that others have to look at: tombstones, quarantine, settings. */
  changed: z.array(z.string()).default([]),
});

export interface Announcement extends z.infer<typeof schema> {
  /** Ids of packs that are durable. */
  readonly packs: readonly string[];
}

/** `cipher` is that of the announcement's name in an encrypted repository. */
export function encodeAnnouncement({ packs, ...rest }: Announcement, cipher?: DocumentCipher): Buffer {
  const sections = [
    { codec: 'none' as const, content: Buffer.from(JSON.stringify(rest)) },
    { codec: 'none' as const, content: encodeIds(packs) },
  ];
  return sealDocument(kind, sections, cipher);
}

/** Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeAnnouncement(bytes: Buffer, name: string, cipher?: DocumentCipher): Announcement {
  const [json, ids] = openDocument(kind, bytes, name, undefined, cipher) as [Buffer, Buffer | undefined];
  const parsed = schema.safeParse(JSON.parse(json.toString('utf8')));
  const packs = ids && decodeIds(ids);
  if (!parsed.success || !packs) throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is not an announcement' });
  return { ...parsed.data, packs };
}

/** Sequences count from 1. */
export function announcementName(instanceId: string, sequence: number): string {
  return `${JOURNAL_PREFIX}${instanceId}/${String(sequence).padStart(12, '0')}.packs`;
}

/** Who announced, and the sequence; undefined for foreign names. */
export function announcementOf(name: string): { readonly instanceId: string; readonly sequence: number } | undefined {
  const match = /^journal\/([\w-]+)\/(\d{12})\.packs$/.exec(name);
  return match?.[1] === undefined ? undefined : { instanceId: match[1], sequence: Number(match[2]) };
}
