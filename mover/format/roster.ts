/** Rosters: which restore points there have to be, so that one whose manifest is gone is missed, as docs/formats/concurrency.md has them. Pure. */
import { z } from 'zod';
import { RepositoryErrors } from '../errors/mover-errors';
import type { DocumentCipher } from './document-cipher';
import { decodeIds, encodeIds } from './id-list';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKROST', version: 1, encryptedVersion: 2 };
export const ROSTER_PREFIX = 'roster/';
/** What one section of a sealed document takes: 64 MiB. */
export const MAX_ROSTER_POINTS = 4 * 1024 * 1024;
export const MAX_ROSTER_BYTES = 80 * 1024 * 1024;

const schema = z.object({
  number: z.number().int().min(1),
  writtenAt: z.iso.datetime(),
  /** Newest announcement of each writer that is in it: what earlier ones told of is in the list, or was collected. */
  journals: z.array(z.object({ instanceId: z.string(), sequence: z.number().int().min(1) })),
  /** The settings were changed once, so that their document has to be there. */
  hasSettings: z.boolean(),
});

export interface Roster extends z.infer<typeof schema> {
  /** Ids of points, ascending; removed ones too until a collection deletes them. */
  readonly points: readonly string[];
}

/** `cipher` is that of the roster's name in an encrypted repository. Throws RangeError beyond MAX_ROSTER_POINTS. */
export function encodeRoster({ points, ...rest }: Roster, cipher?: DocumentCipher): Buffer {
  if (points.length > MAX_ROSTER_POINTS) throw new RangeError(`roster ${rest.number} has ${points.length} points`);
  const contents = [Buffer.from(JSON.stringify(rest)), encodeIds(points)];
  return sealDocument(
    kind,
    contents.map((content) => ({ codec: 'none' as const, content })),
    cipher,
  );
}

/** Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeRoster(bytes: Buffer, name: string, cipher?: DocumentCipher): Roster {
  const [json, ids] = openDocument(kind, bytes, name, undefined, cipher);
  const parsed = schema.safeParse(jsonOf(json));
  const points = ids && decodeIds(ids);
  if (!parsed.success || !points || rosterNumberOf(name) !== parsed.data.number)
    throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is not a roster' });
  return { ...parsed.data, points };
}

/** Numbers ascend from 1; names sort as they do. */
export function rosterName(number: number): string {
  return `${ROSTER_PREFIX}${String(number).padStart(9, '0')}.points`;
}

/** Number in a roster's name; undefined for foreign names. */
export function rosterNumberOf(name: string): number | undefined {
  const digits = /^roster\/(\d{9})\.points$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function jsonOf(bytes: Buffer | undefined): unknown {
  try {
    return bytes && (JSON.parse(bytes.toString('utf8')) as unknown);
  } catch {
    return undefined;
  }
}
