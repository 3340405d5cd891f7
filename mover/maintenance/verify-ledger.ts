/**
 * When each pack was last verified, in the mover's own cache folder. That is enough: a pack never changes, so that the time of its last reading is
 * knowledge about the device and not part of the repository; who loses it, or another mover, reads the packs once more than needed and
 * nothing else happens. A pack is noted only when nothing in it was damaged.
 *
 * `<repository id>.verified`: records of 32 bytes, appended: pack id (16), Unix time in ms (u64), first 8 bytes of BLAKE3 over both. The last record
 * of a pack counts; one that is damaged or cut short does not. Memory: 130 bytes per pack.
 */
import fs from 'node:fs';
import path from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import { durableWrite } from '../../common/tls/durable-write';
import { uuidBytes, uuidText } from '../repository/blocks/pack-table';

const recordBytes = 32;
const checkedBytes = 24;
/** Packs noted between two syncs: what a crash makes to be read again. */
const syncEvery = 16;

export class VerifyLedger {
  private readonly times = new Map<string, number>();
  private descriptor: number | undefined;
  private unsynced = 0;

  private constructor(private readonly file: string) {}

  /** Reads the ledger of a repository; packs for which `exists` is false are forgotten. */
  static open(folder: string, repositoryId: string, exists: (packId: string) => boolean): VerifyLedger {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const ledger = new VerifyLedger(path.join(folder, `${repositoryId}.verified`));
    const bytes = ledger.readFile();
    for (let at = 0; at + recordBytes <= bytes.length; at += recordBytes) {
      const record = bytes.subarray(at, at + recordBytes);
      const id = uuidText(record.subarray(0, 16));
      if (checkOf(record).equals(record.subarray(checkedBytes)) && exists(id)) ledger.times.set(id, Number(record.readBigUInt64BE(16)));
    }
    // Rewritten at each opening, so that it does not grow with the years.
    durableWrite(ledger.file, Buffer.concat([...ledger.times].map(([id, at]) => recordOf(id, at))), 0o600);
    return ledger;
  }

  /** Unix time in ms of the pack's last reading that found nothing wrong. */
  verifiedAt(packId: string): number | undefined {
    return this.times.get(packId);
  }

  /** The oldest time over these packs; undefined while one was never verified. */
  since(packIds: Iterable<string>): Date | undefined {
    let oldest = Infinity;
    for (const id of packIds) {
      const at = this.times.get(id);
      if (at === undefined) return undefined;
      oldest = Math.min(oldest, at);
    }
    return oldest === Infinity ? undefined : new Date(oldest);
  }

  note(packId: string, at: number): void {
    this.times.set(packId, at);
    this.descriptor ??= fs.openSync(this.file, 'a', 0o600);
    fs.writeSync(this.descriptor, recordOf(packId, at));
    if (++this.unsynced >= syncEvery) this.sync();
  }

  /** The pack was found damaged. Not written down: it is found again. */
  forget(packId: string): void {
    this.times.delete(packId);
  }

  close(): void {
    if (this.descriptor === undefined) return;
    this.sync();
    fs.closeSync(this.descriptor);
    this.descriptor = undefined;
  }

  private sync(): void {
    if (this.descriptor !== undefined) fs.fdatasyncSync(this.descriptor);
    this.unsynced = 0;
  }

  private readFile(): Buffer {
    try {
      return fs.readFileSync(this.file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
      throw error;
    }
  }
}

function recordOf(packId: string, at: number): Buffer {
  const record = Buffer.alloc(recordBytes);
  uuidBytes(packId).copy(record);
  record.writeBigUInt64BE(BigInt(at), 16);
  checkOf(record).copy(record, checkedBytes);
  return record;
}

function checkOf(record: Buffer): Buffer {
  return blake3(record.subarray(0, checkedBytes)).subarray(0, recordBytes - checkedBytes);
}
