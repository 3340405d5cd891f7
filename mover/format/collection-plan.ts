/** Plans of collections: what is condemned, and what became of it, as docs/formats/concurrency.md has them. Pure. */
import { z } from 'zod';
import { RepositoryErrors } from '../errors/mover-errors';
import type { DocumentCipher } from './document-cipher';
import { decodeIds, encodeIds, ID_BYTES, idAt } from './id-list';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKPLAN', version: 1, encryptedVersion: 2 };
export const PLAN_PREFIX = 'collections/';
/** Plans are replaced by `swap`, which takes 1 MiB: so many packs and points stay below that. */
export const MAX_PLAN_PACKS = 32_768;
export const MAX_PLAN_POINTS = 16_384;
export const MAX_PLAN_BYTES = 1024 * 1024;

const packBytes = ID_BYTES + 4;

const schema = z.object({
  number: z.number().int().min(1),
  state: z.enum(['condemned', 'deleting', 'done', 'undone']),
  createdAt: z.iso.datetime(),
  /** By the clock of who made the plan; nothing is deleted earlier. */
  deleteAfter: z.iso.datetime(),
  /** When it became `done` or `undone`. */
  endedAt: z.iso.datetime().optional(),
  /** Number of the newest plan when it ended: who has acknowledged a later one has seen that this one ended. */
  endedAfter: z.number().int().optional(),
  /** Newest announcement of each writer that was there before the plan: who acknowledged the plan has read it. */
  journals: z.array(z.object({ instanceId: z.string(), sequence: z.number().int().min(1) })).default([]),
});

export type CollectionState = z.infer<typeof schema>['state'];

export interface CondemnedPack {
  readonly id: string;
  /** Bytes of its file. */
  readonly length: number;
}

export interface CollectionPlan extends z.infer<typeof schema> {
  readonly packs: readonly CondemnedPack[];
  /** Ids of removed points whose manifests go. */
  readonly points: readonly string[];
}

/** `cipher` is that of the plan's name in an encrypted repository. */
export function encodePlan({ packs, points, ...rest }: CollectionPlan, cipher?: DocumentCipher): Buffer {
  if (packs.length > MAX_PLAN_PACKS || points.length > MAX_PLAN_POINTS) throw new RangeError(`plan ${rest.number} is too long`);
  const packList = Buffer.alloc(packs.length * packBytes);
  packs.forEach(({ id, length }, i) => {
    packList.write(id.replaceAll('-', ''), i * packBytes, 'hex');
    packList.writeUInt32BE(length, i * packBytes + ID_BYTES);
  });
  const contents = [Buffer.from(JSON.stringify(rest)), packList, encodeIds(points)];
  return sealDocument(
    kind,
    contents.map((content) => ({ codec: 'none' as const, content })),
    cipher,
  );
}

/** Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodePlan(bytes: Buffer, name: string, cipher?: DocumentCipher): CollectionPlan {
  const [json, packList, pointList] = openDocument(kind, bytes, name, undefined, cipher);
  const parsed = schema.safeParse(jsonOf(json as Buffer));
  const points = pointList && decodeIds(pointList);
  if (!parsed.success || !packList || !points || packList.length % packBytes !== 0 || planNumberOf(name) !== parsed.data.number)
    throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is not a collection plan' });
  const packs: CondemnedPack[] = [];
  for (let at = 0; at < packList.length; at += packBytes)
    packs.push({ id: idAt(packList, at), length: packList.readUInt32BE(at + ID_BYTES) });
  return { ...parsed.data, packs, points };
}

/** Numbers ascend from 1; names sort as they do. */
export function planName(number: number): string {
  return `${PLAN_PREFIX}${String(number).padStart(9, '0')}.plan`;
}

/** Number in a plan's name; undefined for foreign names. */
export function planNumberOf(name: string): number | undefined {
  const digits = /^collections\/(\d{9})\.plan$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}
