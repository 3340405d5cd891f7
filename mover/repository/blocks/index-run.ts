/**
 * One sorted, immutable run of the pack index, as docs/formats/index.md has it. A cache file: whoever finds it damaged drops it and reads the
 * packs again. Lookups read one group of 6 KiB synchronously: offers are answered in order, and the group is in the page cache.
 */
import fs from 'node:fs';
import { blake3 } from '@napi-rs/blake-hash';
import { locationOf, type BlockLocation, type LocationTest } from './block-location';
import { uuidBytes, uuidText, type PackTable } from './pack-table';

const preambleBytes = 64;
const recordBytes = 48;
const groupEntries = 128;
const groupBytes = groupEntries * recordBytes;
const packBytes = 24;
const groupKeyBytes = 16;
const filterBitsPerEntry = 10;
const filterProbes = 7;
const version = 1;

/** A run cannot be trusted; its packs must be read again. */
export class IndexRunDamaged extends Error {
  constructor(readonly file: string) {
    super(`index run ${file} is damaged`);
    this.name = 'IndexRunDamaged';
  }
}

export class IndexRun {
  private readonly group = Buffer.alloc(groupBytes);

  private constructor(
    readonly file: string,
    private readonly descriptor: number,
    readonly entryCount: number,
    /** Ids of the packs whose entries are all in here, by local number. */
    readonly packIds: readonly string[],
    /** Local number to the process's number; -1: the pack is gone. */
    private readonly packNumbers: Int32Array,
    private readonly groupTable: Buffer,
    private readonly filter: Buffer,
    private readonly entriesOffset: number,
  ) {}

  /** Opens a run and tells the table about its packs. `exists` says which packs are still there. Throws IndexRunDamaged. */
  static open(file: string, packs: PackTable): IndexRun {
    const descriptor = fs.openSync(file, 'r');
    try {
      const preamble = readExactly(descriptor, 0, preambleBytes, file);
      if (preamble.toString('latin1', 0, 8) !== 'TDMKIRUN' || preamble.readUInt16BE(8) !== version) throw new IndexRunDamaged(file);
      const packCount = preamble.readUInt32BE(12);
      const entryCount = preamble.readUInt32BE(16);
      const groupCount = preamble.readUInt32BE(20);
      const filterBytes = preamble.readUInt32BE(24);
      const tablesBytes = packCount * packBytes + groupCount * groupKeyBytes + filterBytes;
      const entriesOffset = preambleBytes + tablesBytes;
      const { size } = fs.fstatSync(descriptor);
      if (size !== entriesOffset + entryCount * recordBytes || groupCount !== Math.ceil(entryCount / groupEntries))
        throw new IndexRunDamaged(file);
      const tables = readExactly(descriptor, preambleBytes, tablesBytes, file);
      if (!blake3(Buffer.concat([preamble.subarray(0, 32), tables])).equals(preamble.subarray(32))) throw new IndexRunDamaged(file);
      const packIds: string[] = [];
      const packNumbers = new Int32Array(packCount);
      for (let i = 0; i < packCount; i++) {
        const id = uuidText(tables.subarray(i * packBytes, i * packBytes + 16));
        const number = packs.numberOf(id);
        packIds.push(id);
        packNumbers[i] = number ?? -1;
        if (number !== undefined) packs.describe(number, tables.readUInt32BE(i * packBytes + 16), tables.readUInt32BE(i * packBytes + 20));
      }
      const groupsAt = packCount * packBytes;
      const filterAt = groupsAt + groupCount * groupKeyBytes;
      return new IndexRun(
        file,
        descriptor,
        entryCount,
        packIds,
        packNumbers,
        tables.subarray(groupsAt, filterAt),
        tables.subarray(filterAt),
        entriesOffset,
      );
    } catch (error) {
      fs.closeSync(descriptor);
      throw error;
    }
  }

  /** The first location of a digest that is accepted. Throws IndexRunDamaged. */
  find(digest: Buffer, accept: LocationTest): BlockLocation | undefined {
    if (this.entryCount === 0 || !filterHas(this.filter, digest)) return undefined;
    for (let group = this.lastGroupUpTo(digest); group >= 0; group--) {
      const length = this.readGroup(group);
      let low = 0;
      let high = length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.compare(middle, digest) < 0) low = middle + 1;
        else high = middle;
      }
      for (; low < length && this.compare(low, digest) === 0; low++) {
        const at = low * recordBytes + 32;
        const pack = this.packNumbers[this.group.readUInt32BE(at)] ?? -1;
        const offset = this.group.readUInt32BE(at + 4);
        if (pack >= 0 && accept(pack, offset))
          return locationOf(pack, offset, this.group.readUInt32BE(at + 8), this.group.readUInt32BE(at + 12));
      }
      // Only groups that begin with the very same 8 bytes can still hold it.
      if (this.groupTable.compare(digest, 0, 8, group * groupKeyBytes, group * groupKeyBytes + 8) !== 0) return undefined;
    }
    return undefined;
  }

  private compare(entry: number, digest: Buffer): number {
    return this.group.compare(digest, 0, 32, entry * recordBytes, entry * recordBytes + 32);
  }

  /** All records whose pack still exists, in order, with the process's pack numbers. The Buffer is reused. Throws IndexRunDamaged. */
  *records(): Generator<Buffer> {
    const group = Buffer.alloc(groupBytes);
    const out = Buffer.alloc(recordBytes);
    for (let number = 0; number * groupEntries < this.entryCount; number++) {
      const length = this.readGroup(number);
      this.group.copy(group);
      for (let i = 0; i < length; i++) {
        group.copy(out, 0, i * recordBytes, (i + 1) * recordBytes);
        const pack = this.packNumbers[out.readUInt32BE(32)] ?? -1;
        if (pack < 0) continue;
        out.writeUInt32BE(pack, 32);
        yield out;
      }
    }
  }

  close(): void {
    fs.closeSync(this.descriptor);
  }

  private lastGroupUpTo(digest: Buffer): number {
    let low = 0;
    let high = this.groupTable.length / groupKeyBytes;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.groupTable.compare(digest, 0, 8, middle * groupKeyBytes, middle * groupKeyBytes + 8) <= 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Reads a group into `this.group` and returns its number of entries. */
  private readGroup(number: number): number {
    const length = Math.min(groupEntries, this.entryCount - number * groupEntries);
    const bytes = this.group.subarray(0, length * recordBytes);
    const read = fs.readSync(this.descriptor, bytes, 0, bytes.length, this.entriesOffset + number * groupBytes);
    const at = number * groupKeyBytes;
    if (read !== bytes.length || blake3(bytes).compare(this.groupTable, at + 8, at + 16, 0, 8) !== 0) throw new IndexRunDamaged(this.file);
    return length;
  }
}

/**
 * Writes a run from sorted records with the process's pack numbers; a digest may be in several packs. Resolves when the file has its name.
 * Yields to other work between pieces. `entryLimit` is an upper bound of the number of records.
 */
export async function writeIndexRun(
  file: string,
  records: Iterable<Buffer>,
  entryLimit: number,
  packNumbers: readonly number[],
  packs: PackTable,
): Promise<void> {
  const local = new Map(packNumbers.map((number, i) => [number, i]));
  const filter = Buffer.alloc(Math.ceil((Math.max(entryLimit, 1) * filterBitsPerEntry) / 8));
  const groupKeys: Buffer[] = [];
  const temporary = `${file}.tmp`;
  const entriesFile = `${file}.entries`;
  const out = await fs.promises.open(entriesFile, 'w+', 0o600);
  const handle = await fs.promises.open(temporary, 'w', 0o600);
  try {
    const group = Buffer.alloc(groupBytes);
    const previous = Buffer.alloc(36);
    let filled = 0;
    let count = 0;
    const flush = async () => {
      const bytes = group.subarray(0, filled * recordBytes);
      groupKeys.push(Buffer.concat([bytes.subarray(0, 8), blake3(bytes).subarray(0, 8)]));
      await out.write(bytes);
      filled = 0;
    };
    for (const record of records) {
      // The same digest and pack from two runs: a pack was read again.
      if (count > 0 && record.compare(previous, 0, 36, 0, 36) === 0) continue;
      const pack = local.get(record.readUInt32BE(32));
      if (pack === undefined) continue;
      record.copy(previous, 0, 0, 36);
      record.copy(group, filled * recordBytes);
      group.writeUInt32BE(pack, filled * recordBytes + 32);
      filterAdd(filter, record);
      count++;
      if (++filled === groupEntries) await flush();
    }
    if (filled > 0) await flush();
    const tables = Buffer.concat([packTableBytes(packNumbers, packs), ...groupKeys, filter]);
    const preamble = Buffer.alloc(preambleBytes);
    preamble.write('TDMKIRUN', 0, 'latin1');
    preamble.writeUInt16BE(version, 8);
    preamble.writeUInt32BE(packNumbers.length, 12);
    preamble.writeUInt32BE(count, 16);
    preamble.writeUInt32BE(groupKeys.length, 20);
    preamble.writeUInt32BE(filter.length, 24);
    blake3(Buffer.concat([preamble.subarray(0, 32), tables])).copy(preamble, 32);
    await handle.write(preamble);
    await handle.write(tables);
    const piece = Buffer.alloc(4 * 1024 * 1024);
    for (let at = 0; ;) {
      const { bytesRead } = await out.read(piece, 0, piece.length, at);
      if (bytesRead === 0) break;
      await handle.write(piece, 0, bytesRead);
      at += bytesRead;
    }
  } finally {
    await handle.close();
    await out.close();
    await fs.promises.rm(entriesFile, { force: true });
  }
  await fs.promises.rename(temporary, file);
}

function packTableBytes(packNumbers: readonly number[], packs: PackTable): Buffer {
  const table = Buffer.alloc(packNumbers.length * packBytes);
  packNumbers.forEach((number, i) => {
    uuidBytes(packs.idOf(number)).copy(table, i * packBytes);
    table.writeUInt32BE(packs.lengthOf(number), i * packBytes + 16);
    table.writeUInt32BE(packs.entryCountOf(number), i * packBytes + 20);
  });
  return table;
}

function readExactly(descriptor: number, position: number, length: number, file: string): Buffer {
  const { size } = fs.fstatSync(descriptor);
  // A damaged count must not size a buffer.
  if (position + length > size) throw new IndexRunDamaged(file);
  const bytes = Buffer.alloc(length);
  if (fs.readSync(descriptor, bytes, 0, length, position) !== length) throw new IndexRunDamaged(file);
  return bytes;
}

function filterBit(filter: Buffer, digest: Buffer, probe: number): number {
  return (digest.readUInt32BE(8) + probe * ((digest.readUInt32BE(12) | 1) >>> 0)) % (filter.length * 8);
}

function filterAdd(filter: Buffer, digest: Buffer): void {
  for (let probe = 0; probe < filterProbes; probe++) {
    const bit = filterBit(filter, digest, probe);
    filter[bit >>> 3] = (filter[bit >>> 3] as number) | (1 << (bit & 7));
  }
}

function filterHas(filter: Buffer, digest: Buffer): boolean {
  for (let probe = 0; probe < filterProbes; probe++) {
    const bit = filterBit(filter, digest, probe);
    if (((filter[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false;
  }
  return true;
}
