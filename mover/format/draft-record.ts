/**
 * What of a disk that is being written is mapped to durable blocks, as docs/formats/session.md has it: with it a session goes on after its mover is gone.
 * Pure.
 */
import { z } from 'zod';
import { RepositoryErrors } from '../errors/mover-errors';
import { DIGEST_BYTES, isZero, ZERO_DIGEST } from './block';
import type { DocumentCipher } from './document-cipher';
import { PAGE_FAN_OUT } from './index-page';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKDRFT', version: 1, encryptedVersion: 2 };
export const DRAFT_PREFIX = 'drafts/';
const bitmapBytes = PAGE_FAN_OUT / 8;
/** Page number, flags, positions that are mapped, those of them that are zero. */
const pageHeadBytes = 8 + 2 * bitmapBytes;
const zeroedFlag = 1;

const schema = z.object({
  sessionId: z.string(),
  diskId: z.string(),
  sizeBytes: z.number(),
  basePointId: z.string(),
  baseDiskId: z.string(),
  contentId: z.string(),
  storedBytes: z.number(),
  deduplicatedBytes: z.number(),
});

/** Of which disk, opened how; and what was counted until then. */
export type DraftHead = z.infer<typeof schema>;

/** What was mapped on one page of 256 blocks. */
export interface MappedPage {
  readonly number: number;
  /** First, all of the page is zero. */
  readonly isZeroed: boolean;
  /** Positions in the page, ascending. */
  readonly positions: readonly number[];
  /** Of each position; all zero for a block of zeroes. */
  readonly digests: readonly Buffer[];
}

/** `cipher` is that of the draft's name in an encrypted repository. */
export function encodeDraft(head: DraftHead, pages: readonly MappedPage[], cipher?: DocumentCipher): Buffer {
  const sections = [
    { codec: 'none' as const, content: Buffer.from(JSON.stringify(head)) },
    { codec: 'none' as const, content: Buffer.concat(pages.map(encodePage)) },
  ];
  return sealDocument(kind, sections, cipher);
}

/** Pages in the order in which they were mapped: a later one may map a position again. Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeDraft(
  bytes: Buffer,
  name: string,
  cipher?: DocumentCipher,
): { readonly head: DraftHead; readonly pages: MappedPage[] } {
  const [json, content] = openDocument(kind, bytes, name, undefined, cipher) as [Buffer, Buffer | undefined];
  const head = schema.safeParse(JSON.parse(json.toString('utf8')));
  if (!head.success || !content) throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is not a draft' });
  const pages: MappedPage[] = [];
  for (let at = 0; at < content.length;) {
    const decoded = decodePage(content, at);
    if (!decoded) throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'its pages are cut short' });
    pages.push(decoded.page);
    at = decoded.end;
  }
  return { head: head.data, pages };
}

function encodePage({ number, isZeroed, positions, digests }: MappedPage): Buffer {
  const head = Buffer.alloc(pageHeadBytes);
  head.writeUInt32BE(number, 0);
  head.writeUInt32BE(isZeroed ? zeroedFlag : 0, 4);
  const stored: Buffer[] = [];
  positions.forEach((position, i) => {
    const digest = digests[i] as Buffer;
    putBit(head, 8, position);
    if (isZero(digest)) putBit(head, 8 + bitmapBytes, position);
    else stored.push(digest);
  });
  return Buffer.concat([head, ...stored]);
}

function decodePage(content: Buffer, from: number): { readonly page: MappedPage; readonly end: number } | undefined {
  let at = from + pageHeadBytes;
  if (at > content.length) return undefined;
  const positions: number[] = [];
  const digests: Buffer[] = [];
  for (let position = 0; position < PAGE_FAN_OUT; position++) {
    if (!hasBit(content, from + 8, position)) continue;
    positions.push(position);
    if (hasBit(content, from + 8 + bitmapBytes, position)) digests.push(ZERO_DIGEST);
    else {
      digests.push(content.subarray(at, at + DIGEST_BYTES));
      at += DIGEST_BYTES;
    }
  }
  if (at > content.length) return undefined;
  const isZeroed = (content.readUInt32BE(from + 4) & zeroedFlag) !== 0;
  return { page: { number: content.readUInt32BE(from), isZeroed, positions, digests }, end: at };
}

function putBit(bytes: Buffer, bitmap: number, position: number): void {
  const at = bitmap + (position >> 3);
  bytes[at] = (bytes[at] as number) | (1 << (position & 7));
}

function hasBit(bytes: Buffer, bitmap: number, position: number): boolean {
  return (((bytes[bitmap + (position >> 3)] as number) >> (position & 7)) & 1) === 1;
}

/** Where a draft belongs. */
export interface DraftPlace {
  readonly sessionId: string;
  /** 16 hex digits made of the disk's id, see `draftDiskKey`. */
  readonly diskKey: string;
  /** That of the session record when it was written: two movers that take each other for dead do not overwrite each other's. */
  readonly generation: number;
  /** From 1 on. */
  readonly sequence: number;
}

export function draftName({ sessionId, diskKey, generation, sequence }: DraftPlace): string {
  const padded = (number: number) => String(number).padStart(6, '0');
  return `${DRAFT_PREFIX}${sessionId}.${diskKey}.${padded(generation)}-${padded(sequence)}.draft`;
}

/** Undefined for foreign names. */
export function draftPlaceOf(name: string): DraftPlace | undefined {
  const match = /^drafts\/([0-9a-f-]{36})\.([0-9a-f]{16})\.(\d{6,})-(\d{6,})\.draft$/.exec(name);
  if (!match) return undefined;
  const [, sessionId, diskKey, generation, sequence] = match as unknown as [string, string, string, string, string];
  return { sessionId, diskKey, generation: Number(generation), sequence: Number(sequence) };
}
