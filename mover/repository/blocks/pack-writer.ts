/**
 * Collects stored blocks into packs of about 64 MiB. One writer per repository: lanes of all sessions append to the same pack. Blocks are gathered
 * in page-aligned pieces of 4 MiB that are written while the next one fills; a full pack is sealed (trailer, sync, rename) while the next
 * pack fills. Memory is bounded by the pool of pieces; whoever must wait for one is told so.
 */
import { randomUUID } from 'node:crypto';
import { sealedLength, type PackCipher } from '../../format/pack-cipher';
import { PACK_HEADER_BYTES, PACK_TARGET_BYTES, packHeader, packTrailer, type PackEntry } from '../../format/pack';
import { alignedBuffer } from '../../stores/aligned-buffer';
import { STORE_PIECE_BYTES, type ObjectWriter, type Store } from '../../stores/store';
import type { PackCiphers } from '../keys/pack-ciphers';
import { packName, uuidBytes } from './pack-table';

const poolPieces = 4;

/** What became of a pack. */
export interface PackListener {
  /** The pack is durable and has its name. */
  sealed(packId: string, fileLength: number, entries: readonly PackEntry[]): void;
  /** Nothing of the pack counts. */
  failed(entries: readonly PackEntry[], error: unknown): void;
}

interface OpenPack {
  readonly id: string;
  /** In an encrypted repository. */
  readonly cipher: PackCipher | undefined;
  readonly entries: PackEntry[];
  /** Bytes so far, those in the current piece included. */
  length: number;
  piece: Buffer;
  filled: number;
  /** Writes of this pack, one after the other; rejects at the first failure. */
  writes: Promise<ObjectWriter>;
  failure: unknown;
}

/** A block to store, its digest copied. */
export interface StoredBlock {
  readonly digest: Buffer;
  readonly codec: number;
  readonly kind: number;
  readonly rawLength: number;
  readonly payload: Buffer;
}

export class PackWriter {
  private open: OpenPack | undefined;
  private readonly freePieces: Buffer[] = [];
  private pieces = 0;
  private readonly sealing = new Set<Promise<void>>();
  private waiting: (() => void)[] = [];

  constructor(
    private readonly store: Store,
    private readonly repositoryId: string,
    private readonly listener: PackListener,
    private readonly targetBytes = PACK_TARGET_BYTES,
    private readonly ciphers?: PackCiphers,
  ) {}

  /**
   * Appends a block when there is room for it now; false when the caller must wait for `room` first. The payload is copied. A failure of
   * the device comes to the listener.
   */
  tryAppend(block: StoredBlock): boolean {
    const length = this.ciphers ? sealedLength(block.payload.length) : block.payload.length;
    // A new pack needs one piece and its header; an open one what its piece lacks.
    const inPiece = this.open ? STORE_PIECE_BYTES - this.open.filled : -PACK_HEADER_BYTES;
    const wanted = length < inPiece ? 0 : Math.floor((length - inPiece) / STORE_PIECE_BYTES) + 1;
    if (wanted > this.available) return false;
    const pack = (this.open ??= this.begin());
    const offset = pack.length;
    pack.entries.push({
      digest: block.digest,
      offset,
      storedLength: length,
      rawLength: block.rawLength,
      codec: block.codec,
      kind: block.kind,
    });
    if (pack.cipher) {
      const { body, tag } = pack.cipher.sealBlock(block, offset, block.payload);
      this.copy(pack, body);
      this.copy(pack, tag);
    } else this.copy(pack, block.payload);
    if (pack.length >= this.targetBytes) this.seal(pack);
    return true;
  }

  /** Resolves when `tryAppend` is worth another try. */
  room(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Resolves when every block appended so far is durable or was reported as failed. */
  async flush(): Promise<void> {
    if (this.open) this.seal(this.open);
    await Promise.all(this.sealing);
  }

  /** Throws away the open pack and lets sealing ones end; for who may not write any more. */
  async abandon(): Promise<void> {
    const pack = this.open;
    this.open = undefined;
    if (pack) await pack.writes.then((writer) => writer.abandon()).catch(() => undefined);
    await Promise.all(this.sealing);
  }

  private get available(): number {
    return this.freePieces.length + poolPieces - this.pieces;
  }

  private takePiece(): Buffer {
    const free = this.freePieces.pop();
    if (free) return free;
    this.pieces++;
    return alignedBuffer(STORE_PIECE_BYTES);
  }

  private givePiece(piece: Buffer): void {
    // A trailer may have needed one more piece than the pool has.
    if (this.pieces > poolPieces) this.pieces--;
    else this.freePieces.push(piece);
    const { waiting } = this;
    this.waiting = [];
    for (const wake of waiting) wake();
  }

  private begin(): OpenPack {
    const id = randomUUID();
    const writes = this.store.create(packName(id));
    writes.catch(() => undefined);
    const cipher = this.ciphers?.forNewPack(id);
    const pack: OpenPack = { id, cipher, entries: [], length: 0, piece: this.takePiece(), filled: 0, writes, failure: undefined };
    this.copy(pack, packHeader(uuidBytes(id), uuidBytes(this.repositoryId), cipher));
    return pack;
  }

  private copy(pack: OpenPack, bytes: Buffer): void {
    for (let done = 0; done < bytes.length;) {
      const count = Math.min(bytes.length - done, STORE_PIECE_BYTES - pack.filled);
      bytes.copy(pack.piece, pack.filled, done, done + count);
      pack.filled += count;
      pack.length += count;
      done += count;
      if (pack.filled === STORE_PIECE_BYTES) this.writePiece(pack);
    }
  }

  /** Hands the full piece to the store and goes on with another one. */
  private writePiece(pack: OpenPack): void {
    const { piece } = pack;
    pack.writes = pack.writes.then(async (writer) => {
      try {
        if (pack.failure === undefined) await writer.append(piece);
      } catch (error) {
        pack.failure = error;
        // Report it now rather than after 64 MiB more.
        if (this.open === pack) this.seal(pack);
      } finally {
        this.givePiece(piece);
      }
      return writer;
    });
    pack.writes.catch(() => this.givePiece(piece));
    pack.piece = this.takePiece();
    pack.filled = 0;
  }

  private seal(pack: OpenPack): void {
    if (this.open === pack) this.open = undefined;
    const entryListOffset = pack.length;
    this.copy(pack, packTrailer(uuidBytes(pack.id), pack.entries, entryListOffset, pack.cipher));
    const work = this.finish(pack).finally(() => this.sealing.delete(work));
    this.sealing.add(work);
  }

  private async finish(pack: OpenPack): Promise<void> {
    let writer: ObjectWriter | undefined;
    try {
      writer = await pack.writes;
      if (pack.failure !== undefined) throw pack.failure;
      await writer.finish(pack.piece, pack.filled);
    } catch (error) {
      await writer?.abandon();
      this.listener.failed(pack.entries, error);
      return;
    } finally {
      this.givePiece(pack.piece);
    }
    this.listener.sealed(pack.id, pack.length, pack.entries);
  }
}
