/**
 * Blocks known to be damaged, of all movers of a repository: written down, so that no backup counts on them and the next one that carries such a
 * block stores it again (docs/formats/concurrency.md). A place stays in quarantine until its pack is gone or the place was read and found
 * good: forgetting it because another copy exists would let a collection keep the bad copy and throw away the good one.
 */
import { hasCode } from '../../../common/errors/tidemark-error';
import type { Logger } from '../../../common/log/logger';
import { hexOf, ZERO_DIGEST } from '../../format/block';
import {
  decodeQuarantine,
  encodeQuarantine,
  MAX_QUARANTINE_BLOCKS,
  MAX_QUARANTINE_BYTES,
  QUARANTINE_PREFIX,
  quarantineName,
  quarantineOf,
  type QuarantinedBlock,
} from '../../format/quarantine';
import type { Store } from '../../stores/store';
import type { Journal } from './journal';
import type { PackIndex } from '../blocks/pack-index';
import { readDocument } from '../read-document';
import type { RepositoryKeys } from '../keys/repository-keys';
import { SerialQueue } from '../../../common/flow/serial-queue';

/** Single blocks kept at most (about 20 MB); of further packs the whole pack is noted. */
const maxPlaces = 65_536;

export interface QuarantineOptions {
  readonly store: Store;
  readonly index: PackIndex;
  /** Of an encrypted repository. */
  readonly keys: RepositoryKeys | undefined;
  /** Id of this mover; absent for a reader, which writes nothing down. */
  readonly writerId: string | undefined;
  readonly logger: Logger;
  /** To tell other movers. */
  readonly journal: Pick<Journal, 'announce'>;
}

export class Quarantine {
  private readonly records = new Map<string, readonly QuarantinedBlock[]>();
  /** Not written down yet. */
  private unwritten: QuarantinedBlock[] = [];
  private nextSequence = 1;
  private placeCount = 0;
  private addedCount = 0;
  private readonly steps = new SerialQueue();

  private constructor(private readonly options: QuarantineOptions) {}

  /** Reads all records. A damaged one is logged: a verify finds again what it held. Throws as `Store.readWhole`. */
  static async open(options: QuarantineOptions): Promise<Quarantine> {
    const quarantine = new Quarantine(options);
    await quarantine.reload();
    return quarantine;
  }

  /** Blocks and packs put into quarantine by this mover since it opened the repository. */
  get added(): number {
    return this.addedCount;
  }

  /** Everything that is in quarantine; a block that two movers found is there twice. */
  *blocks(): Generator<QuarantinedBlock> {
    for (const blocks of this.records.values()) yield* blocks;
    yield* this.unwritten;
  }

  /** How many are in quarantine, and how many of these have a copy that counts. A whole pack is one, and never healed. */
  count(): { readonly damaged: number; readonly healed: number } {
    const seen = new Set<string>();
    let healed = 0;
    for (const block of this.blocks()) {
      const place = `${block.packId}:${block.offset}`;
      if (seen.has(place)) continue;
      seen.add(place);
      if (block.offset !== 0 && this.options.index.has(Buffer.from(block.digest, 'hex'))) healed++;
    }
    return { damaged: seen.size - healed, healed };
  }

  /**
   * Puts places into quarantine; those that are there already are passed over. They do not count from this moment on; when it resolves this is
   * also written down. Throws as `Store.put`; what was not written is written with the next call.
   */
  async add(found: readonly QuarantinedBlock[]): Promise<void> {
    const { index, writerId } = this.options;
    for (const block of found) {
      const entry = this.placeCount < maxPlaces ? block : wholePack(block.packId, block.foundAt);
      if (index.isQuarantined(entry.packId, entry.offset)) continue;
      index.quarantine([entry]);
      this.unwritten.push(entry);
      this.placeCount++;
      this.addedCount++;
    }
    if (writerId === undefined) return;
    await this.steps.run(async () => {
      while (this.unwritten.length > 0) {
        const blocks = this.unwritten.slice(0, MAX_QUARANTINE_BLOCKS);
        const sequence = this.nextSequence;
        const name = quarantineName(writerId, sequence);
        await this.put(name, blocks, { instanceId: writerId, sequence });
        this.unwritten = this.unwritten.slice(blocks.length);
      }
    });
  }

  /** As `add`, for who has no time to wait: a failure is logged. */
  report(block: QuarantinedBlock): void {
    const { logger } = this.options;
    logger.warn('a block is damaged; it goes into quarantine', { ...block });
    this.add([block]).catch((error: unknown) => logger.warn('the quarantine could not be written; it is tried again', { error }));
  }

  /** Takes places out for which `isOver` is true, and removes records that are empty then. Throws as `Store.swap`. */
  async settle(isOver: (block: QuarantinedBlock) => boolean): Promise<void> {
    const { store, keys, writerId } = this.options;
    if (writerId === undefined) return;
    await this.steps.run(async () => {
      for (const [name, known] of this.records) {
        if (!known.some(isOver)) continue;
        const stored = await readDocument(store, keys, name, MAX_QUARANTINE_BYTES, decodeQuarantine);
        if (stored) {
          const blocks = stored.content.blocks.filter((block) => !isOver(block));
          const bytes = blocks.length === 0 ? undefined : encodeQuarantine({ ...stored.content, blocks }, keys?.document(name));
          // Somebody else changed it meanwhile: the next look takes that in.
          if (!(await store.swap(name, stored.bytes, bytes))) continue;
          await this.announce(name);
          this.take(name, blocks);
        } else this.take(name, []);
      }
    });
  }

  /** Other movers made, changed or removed these objects; names of other things are passed over. */
  async look(names: Iterable<string>): Promise<void> {
    await this.steps.run(async () => {
      for (const name of names) if (quarantineOf(name)) await this.read(name);
    });
  }

  /** Reads everything again. */
  async reload(): Promise<void> {
    await this.steps.run(async () => {
      const gone = new Set(this.records.keys());
      for await (const name of this.options.store.list(QUARANTINE_PREFIX)) {
        const of = quarantineOf(name);
        if (!of) continue;
        gone.delete(name);
        if (of.instanceId === this.options.writerId) this.nextSequence = Math.max(this.nextSequence, of.sequence + 1);
        await this.read(name);
      }
      for (const name of gone) this.take(name, []);
    });
  }

  private async put(name: string, blocks: QuarantinedBlock[], of: { instanceId: string; sequence: number }): Promise<void> {
    const { store, keys } = this.options;
    await store.put(name, encodeQuarantine({ ...of, blocks }, keys?.document(name)));
    this.nextSequence = of.sequence + 1;
    this.records.set(name, blocks);
    await this.announce(name);
  }

  /** What could not be told is told with the next announcement. */
  private async announce(changed: string): Promise<void> {
    const { journal, logger } = this.options;
    await journal
      .announce({ changed })
      .catch((error: unknown) => logger.warn('other movers could not be told of damage', { changed, error }));
  }

  private async read(name: string): Promise<void> {
    const { store, keys, logger } = this.options;
    try {
      const found = await readDocument(store, keys, name, MAX_QUARANTINE_BYTES, decodeQuarantine);
      this.take(name, found?.content.blocks ?? []);
    } catch (error) {
      if (!hasCode(error, 'OBJECT_DAMAGED') && !hasCode(error, 'REPOSITORY_FORMAT_UNKNOWN')) throw error;
      logger.warn('a quarantine record is damaged; a verify finds again what it held', { name, error });
    }
  }

  /** What a record holds now. */
  private take(name: string, blocks: readonly QuarantinedBlock[]): void {
    const { index } = this.options;
    const before = this.records.get(name) ?? [];
    if (blocks.length === 0) this.records.delete(name);
    else this.records.set(name, blocks);
    index.quarantine(blocks);
    this.placeCount += blocks.length - before.length;
    const over = before.filter(({ packId, offset }) => !blocks.some((block) => block.packId === packId && block.offset === offset));
    if (over.length === 0) return;
    const still = new Set([...this.blocks()].map(({ packId, offset }) => `${packId}:${offset}`));
    for (const { packId, offset } of over) if (!still.has(`${packId}:${offset}`)) index.release(packId, offset);
  }
}

/** A pack that cannot be trusted as a whole. */
export function wholePack(packId: string, foundAt: string): QuarantinedBlock {
  return { digest: hexOf(ZERO_DIGEST), packId, offset: 0, code: 'PACK_DAMAGED', foundAt };
}
