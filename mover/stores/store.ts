import type { S3Access } from './s3/bucket';

/**
 * Where a repository's objects lie. A store knows names and bytes and how to make them durable; it knows nothing of packs or points.
 * Names are relative, with `/`, as in docs/formats/repository.md.
 *
 * Every implementation guarantees: an object is visible whole or not at all; `put` and `finish` resolve only when the object is durable;
 * a read after that sees it. Failures: OBJECT_NOT_FOUND, REPOSITORY_FULL (no space), REPOSITORY_IO (anything else of the device).
 */
export interface Store {
  /** As an administrator would write it, e.g. `directory:/backup`. */
  readonly location: string;
  /** Makes or replaces a small object. Durable when it resolves; after a failure the old content is there, or already the new one. */
  put(name: string, content: Uint8Array): Promise<void>;
  /** Makes a small object unless the name is taken; false then. */
  putNew(name: string, content: Uint8Array): Promise<boolean>;
  /**
   * Replaces a small object, or removes it (undefined), if it still holds `expected`; false when it does not. Of several who try at the same
   * time at most one is told true. At most 1 MiB.
   */
  swap(name: string, expected: Buffer, content: Uint8Array | undefined): Promise<boolean>;
  /** Begins a large object. Nothing is visible before `finish`. */
  create(name: string): Promise<ObjectWriter>;
  /** Reads from `offset` into `target`; resolves with the bytes read, fewer than asked only at the object's end. */
  read(name: string, offset: number, target: Buffer): Promise<number>;
  /** The whole of a small object. Throws OBJECT_DAMAGED when it is larger than `maxBytes`. */
  readWhole(name: string, maxBytes: number): Promise<Buffer>;
  sizeOf(name: string): Promise<number>;
  /** Names that begin with `prefix` (which ends in `/`), in no order. */
  list(prefix: string): AsyncIterable<string>;
  /** Removes an object; one that is not there is no error. */
  delete(name: string): Promise<void>;
  /** Bytes that can still be written; undefined when the store cannot tell. */
  freeBytes(): Promise<number | undefined>;
  /** Bytes of the whole device or share; undefined when the store cannot tell. */
  totalBytes(): Promise<number | undefined>;
  /** Removes what unfinished writes of this writer (instance id of a mover) left in an earlier life. Others may be writing now. */
  removeLeftovers(writer: string): Promise<void>;
  /** Goes over to another access key, which was tried before; what is under way ends with the one before. Absent where requests carry no key. */
  useAccess?(access: S3Access): void;
  close(): Promise<void>;
}

/** Writes one large object from its start to its end. Calls do not overlap. */
export interface ObjectWriter {
  /** Appends a piece of STORE_PIECE_BYTES in page-aligned memory (see aligned-buffer.ts). The memory is free again when it resolves. */
  append(piece: Buffer): Promise<void>;
  /**
   * Appends the last piece, `length` bytes at the start of `piece` (whose memory up to the next 4096 may be overwritten), and makes the object
   * durable and visible.
   */
  finish(piece: Buffer, length: number): Promise<void>;
  /** Throws away what was written; also after a failure. */
  abandon(): Promise<void>;
}

/** Size of the pieces of a large object. */
export const STORE_PIECE_BYTES = 4 * 1024 * 1024;
