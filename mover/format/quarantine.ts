/** Records of blocks that were found damaged, as docs/formats/concurrency.md has them. Pure. */
import { z } from 'zod';
import { RepositoryErrors } from '../errors/mover-errors';
import type { DocumentCipher } from './document-cipher';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKQUAR', version: 1, encryptedVersion: 2 };
export const QUARANTINE_PREFIX = 'quarantine/';
/** Blocks in one record; more go into another. Records are replaced by `swap`, which takes 1 MiB. */
export const MAX_QUARANTINE_BLOCKS = 2048;
/** What a record of so many blocks takes at most. */
export const MAX_QUARANTINE_BYTES = 1024 * 1024;

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

const schema = z.object({
  instanceId: z.string(),
  sequence: z.number().int().min(1),
  blocks: z
    .array(
      z.object({
        /** 64 hexadecimal digits: what the place should hold; all zero for a whole pack. */
        digest: z.string().regex(/^[0-9a-f]{64}$/),
        packId: z.string().regex(uuid),
        /** In the pack, in bytes; 0, where no block lies: the whole pack. */
        offset: z.number().int().min(0).max(0xffffffff),
        /** Error code of what was found, e.g. BLOCK_CORRUPT. */
        code: z.string().regex(/^[A-Z][A-Z0-9_]{0,63}$/),
        foundAt: z.iso.datetime(),
      }),
    )
    .max(MAX_QUARANTINE_BLOCKS),
});

/** Who wrote it, its sequence of that writer (from 1), and the blocks. */
export type QuarantineRecord = z.infer<typeof schema>;
/** One place of a pack that does not hold what the pack's list says, or a pack that cannot be trusted as a whole. */
export type QuarantinedBlock = QuarantineRecord['blocks'][number];

/** `cipher` is that of the record's name in an encrypted repository. */
export function encodeQuarantine(record: QuarantineRecord, cipher?: DocumentCipher): Buffer {
  if (record.blocks.length > MAX_QUARANTINE_BLOCKS) throw new RangeError(`${record.blocks.length} blocks in one quarantine record`);
  return sealDocument(kind, [{ codec: 'none', content: Buffer.from(JSON.stringify(record)) }], cipher);
}

/** Throws OBJECT_DAMAGED (also when it is not the record of its name), REPOSITORY_FORMAT_UNKNOWN. */
export function decodeQuarantine(bytes: Buffer, name: string, cipher?: DocumentCipher): QuarantineRecord {
  const [content] = openDocument(kind, bytes, name, undefined, cipher);
  const parsed = schema.safeParse(jsonOf(content as Buffer));
  if (!parsed.success || quarantineName(parsed.data.instanceId, parsed.data.sequence) !== name)
    throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is not the quarantine record of its name' });
  return parsed.data;
}

/** Sequences count from 1. */
export function quarantineName(instanceId: string, sequence: number): string {
  return `${QUARANTINE_PREFIX}${instanceId}-${String(sequence).padStart(12, '0')}.blocks`;
}

/** Who wrote a record, and its sequence; undefined for foreign names. */
export function quarantineOf(name: string): { readonly instanceId: string; readonly sequence: number } | undefined {
  const match = /^quarantine\/([\w-]+)-(\d{12})\.blocks$/.exec(name);
  return match?.[1] === undefined ? undefined : { instanceId: match[1], sequence: Number(match[2]) };
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}
