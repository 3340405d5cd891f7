/**
 * Digest to place in a pack, for all sealed packs of a repository: new entries in memory, older ones in sorted runs on disk. A cache, rebuilt from
 * the packs' own lists whenever it is missing or damaged; written in docs/formats/index.md. Knows nothing of points or sessions.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { Logger } from '../../../common/log/logger';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { forEachOf } from '../../../common/flow/for-each-of';
import type { PackEntry } from '../../format/pack';
import type { Store } from '../../stores/store';
import { packTraits, type BlockLocation, type LocationTest } from './block-location';
import { DigestTable } from './digest-table';
import { IndexRun, IndexRunDamaged, writeIndexRun } from './index-run';
import type { PackCiphers } from '../keys/pack-ciphers';
import { readPackList, type PackList } from './pack-reader';
import { packIdOf, packName, PackTable } from './pack-table';

export interface PackIndexLimits {
  /** Entries in memory before they become a run. */
  readonly memoryEntries: number;
  /** Runs of about one size before they are merged. */
  readonly maxRuns: number;
}

/** Entry lists read at a time: an object store takes its time for each. */
const listsAtOnce = 16;

export const defaultIndexLimits: PackIndexLimits = { memoryEntries: 262_144, maxRuns: 8 };

/** Entries that are in memory, and which packs they cover. */
interface Layer {
  readonly table: DigestTable;
  readonly packs: number[];
}

export class PackIndex {
  readonly packs = new PackTable();
  /** Packs whose list could not be read, with the reason. */
  readonly damagedPacks = new Map<string, string>();
  /** Quarantine; see `placeName`. */
  private readonly damagedPlaces = new Set<string>();
  private current: Layer = { table: new DigestTable(), packs: [] };
  /** Being written as a run; still searched. */
  private frozen: Layer | undefined;
  private runs: IndexRun[] = [];
  private nextRun = 1;
  private upkeep: Promise<void> = Promise.resolve();
  private closed = false;
  /** Packs that the cache did not cover at the start. */
  readAnew: readonly string[] = [];

  private constructor(
    private readonly store: Store,
    private readonly folder: string,
    private readonly logger: Logger,
    private readonly limits: PackIndexLimits,
    private readonly ciphers: PackCiphers | undefined,
  ) {}

  /**
   * Loads what the cache folder holds and reads the lists of all packs it does not cover. A pack whose list cannot be read is noted in
   * `damagedPacks` and its blocks are not found. Throws REPOSITORY_IO.
   */
  static async open(
    store: Store,
    folder: string,
    logger: Logger,
    limits: PackIndexLimits = defaultIndexLimits,
    ciphers?: PackCiphers,
  ): Promise<PackIndex> {
    const index = new PackIndex(store, folder, logger, limits, ciphers);
    try {
      await index.load();
    } catch (error) {
      // Who tries again opens the runs again.
      await index.close(false);
      throw error;
    }
    return index;
  }

  private async load(): Promise<void> {
    fs.mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    const uncovered = await this.listed();
    for (const id of uncovered) this.packs.add(id);
    for (const file of this.runFiles()) {
      try {
        const run = IndexRun.open(file, this.packs);
        this.runs.unshift(run);
        for (const id of run.packIds) uncovered.delete(id);
      } catch (error) {
        this.logger.warn('index run dropped; its packs are read again', { file: path.basename(file), error });
        fs.rmSync(file, { force: true });
      }
    }
    await this.readPacks(uncovered);
    this.readAnew = [...uncovered];
  }

  /** Ids of all packs in the store. Not for the hot path: it lists. */
  async listed(): Promise<Set<string>> {
    const ids = new Set<string>();
    for await (const name of this.store.list('packs/')) {
      const id = packIdOf(name);
      if (id !== undefined) ids.add(id);
    }
    return ids;
  }

  /** Takes in packs that another mover announced; those known already are left alone. Throws REPOSITORY_IO. */
  async addAnnounced(ids: Iterable<string>): Promise<void> {
    const unknown = [...ids].filter((id) => this.packs.numberOf(id) === undefined);
    await this.readPacks(unknown);
  }

  /**
   * Place of a digest in a sealed pack: one that counts, else one that is condemned or in quarantine, which may still be read. A damaged run counts
   * as empty and its packs are read again in the background.
   */
  find(digest: Buffer): BlockLocation | undefined {
    return this.search(digest, this.isUsable) ?? this.search(digest, this.isReadable);
  }

  /** Every place of a digest that exists, those that count first. */
  findAll(digest: Buffer): BlockLocation[] {
    const found: BlockLocation[] = [];
    const isNew = (test: LocationTest): LocationTest => {
      return (pack, offset) => test(pack, offset) && !found.some((other) => other.pack === pack && other.offset === offset);
    };
    for (const test of [isNew(this.isUsable), isNew(this.isReadable)])
      for (let next = this.search(digest, test); next; next = this.search(digest, test)) found.push(next);
    return found;
  }

  /** As `find`, but waits for a rebuild that is under way before it says no. */
  async locate(digest: Buffer): Promise<BlockLocation | undefined> {
    const found = this.find(digest);
    if (found) return found;
    const { upkeep } = this;
    await upkeep;
    return this.find(digest);
  }

  /** True when the digest lies where a new reference to it may be made. */
  has(digest: Buffer): boolean {
    return this.search(digest, this.isUsable) !== undefined;
  }

  /** Places known to be damaged, from now on. Offset 0, where no block lies, stands for the whole pack. */
  quarantine(places: Iterable<{ readonly packId: string; readonly offset: number }>): void {
    for (const { packId, offset } of places) {
      if (offset === 0) this.packs.setDamaged(packId, true);
      else this.damagedPlaces.add(placeName(packId, offset));
    }
  }

  /** Takes a place, or (offset 0) a pack, out of quarantine. */
  release(packId: string, offset: number): void {
    if (offset === 0) this.packs.setDamaged(packId, false);
    else this.damagedPlaces.delete(placeName(packId, offset));
  }

  /** True also when the whole pack is in quarantine. */
  isQuarantined(packId: string, offset: number): boolean {
    return this.packs.isDamaged(packId) || (offset !== 0 && this.damagedPlaces.has(placeName(packId, offset)));
  }

  /** Packs were deleted: nothing in them is found any more. */
  dropPacks(ids: Iterable<string>): void {
    for (const id of ids) {
      this.packs.drop(id);
      this.damagedPacks.delete(id);
    }
  }

  /** Makes the entries of a sealed, durable pack known. */
  addPack(id: string, fileLength: number, entries: readonly PackEntry[]): void {
    const number = this.packs.add(id);
    this.damagedPacks.delete(id);
    this.packs.describe(number, fileLength, entries.length);
    for (const e of entries) this.current.table.set(e.digest, number, e.offset, e.storedLength, packTraits(e.rawLength, e.codec, e.kind));
    this.current.packs.push(number);
    if (this.current.table.size >= this.limits.memoryEntries && !this.frozen) this.freeze();
  }

  packNameOf(location: BlockLocation): string {
    return packName(this.packs.idOf(location.pack));
  }

  /** Closes the runs; with `keep`, writes what is in memory first, so that the next start is quick. */
  async close(keep: boolean): Promise<void> {
    this.closed = true;
    await this.upkeep;
    if (keep && !this.frozen && this.current.packs.length > 0) this.freeze();
    await this.upkeep;
    for (const run of this.runs) run.close();
    this.runs = [];
  }

  /** Entry list of a pack, from the pack itself. Throws PACK_DAMAGED (also when it is missing), REPOSITORY_IO. */
  readList(id: string): Promise<PackList> {
    return readPackList(this.store, id, this.ciphers);
  }

  private readonly isReadable: LocationTest = (pack) => this.packs.exists(pack);

  private readonly isUsable: LocationTest = (pack, offset) =>
    this.packs.counts(pack) && (this.damagedPlaces.size === 0 || !this.damagedPlaces.has(placeName(this.packs.idOf(pack), offset)));

  private search(digest: Buffer, accept: LocationTest): BlockLocation | undefined {
    const found = this.current.table.find(digest, accept) ?? this.frozen?.table.find(digest, accept);
    if (found) return found;
    for (const run of this.runs) {
      try {
        const location = run.find(digest, accept);
        if (location) return location;
      } catch (error) {
        if (!(error instanceof IndexRunDamaged)) throw error;
        this.dropRun(run);
        return this.search(digest, accept);
      }
    }
    return undefined;
  }

  private runFiles(): string[] {
    const names = fs.readdirSync(this.folder);
    for (const name of names) if (!/^\d{8}\.run$/.test(name)) fs.rmSync(path.join(this.folder, name), { recursive: true, force: true });
    const runs = names.filter((name) => /^\d{8}\.run$/.test(name)).sort();
    const last = runs.at(-1);
    if (last !== undefined) this.nextRun = Number(last.slice(0, 8)) + 1;
    return runs.map((name) => path.join(this.folder, name));
  }

  private async readPacks(ids: Iterable<string>): Promise<void> {
    await forEachOf(ids, listsAtOnce, async (id) => {
      try {
        const { entries, fileLength } = await this.readList(id);
        this.addPack(id, fileLength, entries);
      } catch (error) {
        if (!isTidemarkError(error) || error.code === 'REPOSITORY_IO') throw error;
        this.damagedPacks.set(id, error.message);
        this.logger.warn('pack is damaged; its blocks are not used', { pack: id, code: error.code });
      }
      // While there are more entries than memory should hold, wait for the run.
      if (this.frozen && this.current.table.size >= this.limits.memoryEntries) await this.upkeep;
    });
  }

  private freeze(): void {
    const layer = this.current;
    this.frozen = layer;
    this.current = { table: new DigestTable(), packs: [] };
    this.background('writing an index run', async () => {
      const packs = [...new Set(layer.packs)];
      const run = await this.writeRun(() => layer.table.sorted(), layer.table.size, packs);
      this.runs.unshift(run);
      this.frozen = undefined;
      for (let alike = this.alike(); alike; alike = this.alike()) await this.merge(alike);
    });
  }

  /**
   * More runs of about one size than there should be. Only such are merged, so that an entry is written again once for each size and not each time that
   * memory is full: three times at 100 million.
   */
  private alike(): IndexRun[] | undefined {
    const { memoryEntries, maxRuns } = this.limits;
    const sizes = new Map<number, IndexRun[]>();
    for (const run of this.runs) {
      const size = Math.floor(Math.log(Math.max(1, run.entryCount / memoryEntries)) / Math.log(Math.max(2, maxRuns)));
      const alike = [...(sizes.get(size) ?? []), run];
      sizes.set(size, alike);
      if (alike.length > maxRuns) return alike;
    }
    return undefined;
  }

  private async merge(merged: readonly IndexRun[]): Promise<void> {
    const packs = [...new Set(merged.flatMap((run) => run.packIds.map((id) => this.packs.numberOf(id)).filter((n) => n !== undefined)))];
    const entries = merged.reduce((sum, run) => sum + run.entryCount, 0);
    const whole = await this.writeRun(() => mergeSorted(merged.map((run) => run.records())), entries, packs);
    this.runs = this.runs.filter((run) => !merged.includes(run));
    this.runs.push(whole);
    for (const run of merged) {
      run.close();
      fs.rmSync(run.file, { force: true });
    }
  }

  private async writeRun(records: () => Iterable<Buffer>, entryLimit: number, packs: number[]): Promise<IndexRun> {
    const file = path.join(this.folder, `${String(this.nextRun++).padStart(8, '0')}.run`);
    await writeIndexRun(file, records(), entryLimit, packs, this.packs);
    return IndexRun.open(file, this.packs);
  }

  private dropRun(run: IndexRun): void {
    if (!this.runs.includes(run)) return;
    this.logger.warn('index run is damaged; its packs are read again', { file: path.basename(run.file) });
    this.runs = this.runs.filter((other) => other !== run);
    run.close();
    fs.rmSync(run.file, { force: true });
    const present = run.packIds.filter((id) => this.packs.numberOf(id) !== undefined);
    this.background('reading packs of a damaged run', () => this.readPacks(present));
  }

  /** Upkeep runs one after the other; a failure leaves the index as it was and is tried again at the next occasion. */
  private background(what: string, work: () => Promise<void>): void {
    this.upkeep = this.upkeep.then(work).catch((error: unknown) => {
      this.logger.warn('upkeep of the pack index failed', { what, error });
      const { frozen } = this;
      if (frozen && !this.closed) {
        // Fold the newer entries into the frozen layer, so that nothing is forgotten; it is written with the next pack.
        for (const record of this.current.table.sorted())
          frozen.table.set(record, record.readUInt32BE(32), record.readUInt32BE(36), record.readUInt32BE(40), record.readUInt32BE(44));
        frozen.packs.push(...this.current.packs);
        this.current = frozen;
        this.frozen = undefined;
      }
    });
  }
}

function placeName(packId: string, offset: number): string {
  return `${packId}:${offset}`;
}

/** Merges sorted sequences by digest and pack. */
function* mergeSorted(sources: Generator<Buffer>[]): Generator<Buffer> {
  const heads = sources.map((source) => source.next());
  for (;;) {
    let least = -1;
    for (let i = 0; i < heads.length; i++) {
      const head = heads[i] as IteratorResult<Buffer>;
      if (head.done === true) continue;
      const best = least < 0 ? undefined : ((heads[least] as IteratorResult<Buffer>).value as Buffer);
      if (best === undefined || head.value.compare(best, 0, 36, 0, 36) < 0) least = i;
    }
    if (least < 0) return;
    yield (heads[least] as IteratorResult<Buffer>).value as Buffer;
    heads[least] = (sources[least] as Generator<Buffer>).next();
  }
}
