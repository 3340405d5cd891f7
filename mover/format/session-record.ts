/** Session records, as docs/formats/session.md has them. */
import { z } from 'zod';
import { CommonErrors } from '../../common/errors/common-errors';
import { RepositoryErrors } from '../errors/mover-errors';
import type { DocumentCipher } from './document-cipher';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKSESS', version: 1, encryptedVersion: 2 };
export const SESSION_PREFIX = 'sessions/';
/** What a store can replace atomically. */
export const MAX_SESSION_BYTES = 1024 * 1024;

const committedDisk = z.object({
  diskId: z.string(),
  sizeBytes: z.number(),
  basePointId: z.string(),
  baseDiskId: z.string(),
  indexRoot: z.string().regex(/^[0-9a-f]{64}$/),
  allocatedBlocks: z.number(),
  storedBytes: z.number(),
  deduplicatedBytes: z.number(),
});

const schema = z.object({
  sessionId: z.string(),
  repositoryId: z.string(),
  kind: z.enum(['backup', 'restore']),
  pointIds: z.array(z.string()),
  state: z.enum(['open', 'committed', 'aborted']),
  openedAt: z.iso.datetime(),
  endedAt: z.iso.datetime().optional(),
  leaseDurationMs: z.number(),
  disks: z.array(committedDisk),
  intent: z.object({ pointId: z.string(), manifestName: z.string() }).optional(),
  pointId: z.string().optional(),
  /** Instance id of the mover that it belongs to; absent in records of before: whoever finds it. */
  owner: z.string().optional(),
  /** Counts the owners, from 1 on. */
  generation: z.int().optional(),
});

export type SessionRecord = z.infer<typeof schema>;
export type CommittedDisk = z.infer<typeof committedDisk>;

/** `cipher` is that of the record's name in an encrypted repository. Throws ARGUMENT_INVALID when it is longer than MAX_SESSION_BYTES. */
export function encodeSession(record: SessionRecord, cipher?: DocumentCipher): Buffer {
  const bytes = sealDocument(kind, [{ codec: 'none', content: Buffer.from(JSON.stringify(record)) }], cipher);
  if (bytes.length <= MAX_SESSION_BYTES) return bytes;
  throw CommonErrors.ARGUMENT_INVALID({ field: 'session', problem: `its disks and points take ${bytes.length} bytes to write down` });
}

/** Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeSession(bytes: Buffer, name: string, cipher?: DocumentCipher): SessionRecord {
  const [content] = openDocument(kind, bytes, name, undefined, cipher);
  const parsed = schema.safeParse(JSON.parse((content as Buffer).toString('utf8')));
  if (!parsed.success) throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is not a session record' });
  return parsed.data;
}

export function sessionName(sessionId: string): string {
  return `${SESSION_PREFIX}${sessionId}.session`;
}

/** Session id of a record's name; undefined for foreign names. */
export function sessionIdOf(name: string): string | undefined {
  return /^sessions\/([0-9a-f-]{36})\.session$/.exec(name)?.[1];
}
