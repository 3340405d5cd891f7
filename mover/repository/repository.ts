/**
 * One repository: header, lease, journal, pack index, blocks, index pages and points, put together. The format is written in docs/formats/; how
 * several movers work on one repository in docs/formats/concurrency.md. It knows nothing of sessions, tickets or the network.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import path from 'node:path';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { RepositoryErrors } from '../errors/mover-errors';
import type { BlockCodec } from '../format/block';
import { decodeHeaderDocument, encodeHeaderDocument, HEADER_NAME, type RepositoryHeader } from '../format/repository-header';
import type { RepositoryKey } from '../format/key-slot';
import { SETTINGS_NAME } from '../format/settings-document';
import type { PointDiskRecord, PointRecord } from '../format/manifest';
import { blockCount } from '../format/index-page';
import type { Store } from '../stores/store';
import { BlockStore } from './blocks/block-store';
import { CollectionFollower } from './sharing/collection-follower';
import { DiskTree } from './blocks/disk-tree';
import { defaultIndexLimits, PackIndex, type PackIndexLimits } from './blocks/pack-index';
import { PageStore } from './blocks/page-store';
import { PointCatalog } from './point-catalog';
import { Quarantine } from './sharing/quarantine';
import { Journal, type Announced } from './sharing/journal';
import { LiveSettings, type SettingsChange } from './live-settings';
import { openKeys } from './keys/open-keys';
import { PackCiphers } from './keys/pack-ciphers';
import type { RepositoryKeys } from './keys/repository-keys';
import { WriterLease, type LockOptions } from './sharing/writer-lease';
import { Writers } from './sharing/writers';

const maxHeaderBytes = 64 * 1024;

export interface RepositorySettings {
  readonly blockSizeBytes: number;
  readonly codec: 'none' | 'zstd' | 'lz4';
  readonly codecLevel: number;
}

export const defaultSettings: RepositorySettings = { blockSizeBytes: 1024 * 1024, codec: 'zstd', codecLevel: 1 };

export interface OpenOptions {
  /** Folder for caches; a subfolder per repository is made. */
  readonly cacheFolder: string;
  /** Absent: for reading only, without a lease. */
  readonly lock?: LockOptions;
  /** Needed for an encrypted repository. */
  readonly key?: RepositoryKey | undefined;
  readonly logger: Logger;
  /** Milliseconds of a clock that nobody sets; for tests. */
  readonly ticks?: () => number;
  readonly indexLimits?: PackIndexLimits;
  readonly packTargetBytes?: number;
}

/** Reads the header of whatever is in the store. Throws REPOSITORY_NOT_FOUND, REPOSITORY_HEADER_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export async function readHeader(store: Store): Promise<RepositoryHeader> {
  try {
    return decodeHeaderDocument(await store.readWhole(HEADER_NAME, maxHeaderBytes));
  } catch (error) {
    if (hasCode(error, 'OBJECT_NOT_FOUND')) throw RepositoryErrors.REPOSITORY_NOT_FOUND({ repository: store.location }, { cause: error });
    if (hasCode(error, 'OBJECT_DAMAGED'))
      throw RepositoryErrors.REPOSITORY_HEADER_DAMAGED({ problem: String(error.meta['problem']) }, { cause: error });
    throw error;
  }
}

/** Makes a new, empty repository; the header is its last step. The caller has checked that the store is empty. */
export async function createRepository(
  store: Store,
  requestId: string,
  settings: RepositorySettings,
  now: Date,
): Promise<RepositoryHeader> {
  const header: RepositoryHeader = {
    repositoryId: randomUUID(),
    createdAt: now.toISOString(),
    requestId,
    digestKey: randomBytes(32).toString('hex'),
    ...settings,
  };
  if (!(await store.putNew(HEADER_NAME, encodeHeaderDocument(header)))) {
    const existing = await readHeader(store);
    if (existing.requestId === requestId) return existing;
    throw RepositoryErrors.REPOSITORY_EXISTS({ repositoryId: existing.repositoryId });
  }
  return header;
}

export class Repository {
  readonly digestKey: Buffer;
  /** Everybody who writes here. */
  readonly writers: Writers;
  private readonly follower: CollectionFollower;

  private constructor(
    readonly store: Store,
    readonly header: RepositoryHeader,
    readonly index: PackIndex,
    readonly blocks: BlockStore,
    readonly pages: PageStore,
    readonly points: PointCatalog,
    /** What may change while the repository is open. */
    readonly settings: LiveSettings,
    /** Blocks known to be damaged. */
    readonly quarantine: Quarantine,
    private readonly journal: Journal,
    private readonly lease: WriterLease | undefined,
    /** Of an encrypted repository. */
    readonly keys: RepositoryKeys | undefined,
    private readonly logger: Logger,
  ) {
    this.digestKey = digestKeyOf(header, keys);
    this.writers = new Writers(store);
    this.follower = new CollectionFollower(store, index, keys, logger);
    blocks.refreshBy(() => this.refresh());
  }

  /**
   * Opens a repository: writes the lease (when asked to write), removes what unfinished writes left, loads or rebuilds the pack index.
   * Throws as `readHeader` and `openKeys`, and REPOSITORY_LOCKED. With a wrong key nothing was written.
   */
  static async open(store: Store, options: OpenOptions): Promise<Repository> {
    const header = await readHeader(store);
    const keys = await openKeys(store, header, options.key);
    const { logger } = options;
    const lease = options.lock ? await WriterLease.acquire(store, header.repositoryId, options.lock, logger) : undefined;
    let index: PackIndex | undefined;
    try {
      if (lease) await store.removeLeftovers(lease.instanceId);
      if (lease) await keys?.refresh();
      // First how far everybody's announcements go, then what there is: nothing falls between.
      const journal = await Journal.open(store, lease?.instanceId, keys, logger);
      // Points before packs: whatever a manifest that is seen reaches was durable before it.
      const points = await PointCatalog.load(store, keys);
      const settings = await LiveSettings.open(store, header, keys, logger);
      const folder = path.join(options.cacheFolder, header.repositoryId);
      const ciphers = keys && new PackCiphers(keys);
      index = await PackIndex.open(store, folder, logger, options.indexLimits ?? defaultIndexLimits, ciphers);
      // Their maker may have died before it announced them. Told with the first thing that may refer to them; others pass over what they know.
      if (lease) for (const id of index.readAnew) journal.notePack(id);
      const quarantine = await Quarantine.open({ store, index, keys, journal, writerId: lease?.instanceId, logger });
      const blocks = new BlockStore(store, index, header.repositoryId, {
        ticks: options.ticks ?? (() => performance.now()),
        digestKey: digestKeyOf(header, keys),
        damaged: (block) => quarantine.report(block),
        sealed: (id) => journal.notePack(id),
        ...(options.packTargetBytes === undefined ? {} : { packTargetBytes: options.packTargetBytes }),
        ...(ciphers && { ciphers }),
      });
      const pages = new PageStore(blocks, digestKeyOf(header, keys), settings);
      const repository = new Repository(store, header, index, blocks, pages, points, settings, quarantine, journal, lease, keys, logger);
      // Before the first question is answered, so that nothing condemned is referred to.
      const obeyed = await repository.follower.obey();
      await lease?.acknowledge(obeyed);
      lease?.keep(() => repository.follow());
      return repository;
    } catch (error) {
      // It is tried again and again: files that stay open would add up.
      await index?.close(false).catch(() => undefined);
      await lease?.release().catch(() => undefined);
      throw error;
    }
  }

  get id(): string {
    return this.header.repositoryId;
  }

  get blockSizeBytes(): number {
    return this.header.blockSizeBytes;
  }

  /** How new blocks are stored, now. */
  get codec(): BlockCodec {
    return this.settings.codec;
  }

  /** zstd's level, now. */
  get codecLevel(): number {
    return this.settings.codecLevel;
  }

  /** Changes what may change, here and on the other movers. Throws ARGUMENT_INVALID, and as `Store.swap`. */
  async updateSettings(change: SettingsChange): Promise<void> {
    await this.settings.update(change, new Date());
    await this.announce({ changed: SETTINGS_NAME });
  }

  /** Index tree of a disk of a point. */
  tree(disk: Pick<PointDiskRecord, 'indexRoot' | 'sizeBytes'>, blockSizeBytes = this.blockSizeBytes): DiskTree {
    return new DiskTree(this.pages, Buffer.from(disk.indexRoot, 'hex'), blockCount(disk.sizeBytes, blockSizeBytes));
  }

  /** Id of the mover that has it open for writing. */
  get writerId(): string | undefined {
    return this.lease?.instanceId;
  }

  /** Throws REPOSITORY_LOCK_LOST; call it before anything becomes visible. */
  async assertWritable(): Promise<void> {
    if (!this.lease) throw RepositoryErrors.REPOSITORY_LOCK_LOST({ repositoryId: this.id });
    await this.lease.assertHeld();
  }

  /** True when this mover's lease ran out or another process has it: nothing more must be written. */
  get isLost(): boolean {
    return this.lease?.isLost === true;
  }

  /** Makes a point visible, here and to other movers. When it rejects the point may or may not exist. */
  async publish(point: PointRecord, configuration: string, name: string): Promise<void> {
    await this.assertWritable();
    await this.points.add(point, configuration, name);
    await this.announce({ manifest: name });
  }

  /** Makes packs that are durable known to other movers; before anything durable refers to them. Throws as `Store.put`. */
  async announcePacks(): Promise<void> {
    await this.journal.announce();
  }

  /** Takes in packs that nobody announced, and announces them with its own. Those that are known are left alone. Throws as `Store.put`. */
  async adopt(packIds: readonly string[]): Promise<void> {
    const unknown = packIds.filter((id) => this.index.packs.numberOf(id) === undefined);
    // Nobody announced them, so nobody told of the key that they may be encrypted with either.
    if (unknown.length > 0) await this.keys?.reload();
    await this.index.addAnnounced(unknown);
    for (const id of unknown) this.journal.notePack(id);
    await this.announcePacks();
  }

  /** Tells other movers of an object that was made, changed or deleted. Not fatal: what could not be told is told with the next announcement. */
  async announce(what: { readonly manifest?: string; readonly changed?: string | readonly string[] }): Promise<void> {
    try {
      await this.journal.announce(what);
    } catch (error) {
      this.logger.warn('other movers could not be told; it is tried again', { repositoryId: this.id, ...what, error });
    }
  }

  /**
   * Does work that checks that blocks are there and then makes something durable that refers to them. A collection that another mover decided on is
   * obeyed at once, and acknowledged only when all such work that began before has ended: without that it could be deleted under our hands.
   */
  referencing<T>(work: () => Promise<T>): Promise<T> {
    return this.follower.referencing(work);
  }

  /** Takes in what other movers announced since the last look: packs, points, keys. Throws as `Store.read`. */
  async refresh(): Promise<void> {
    await this.journal.read((announced) => this.take(announced));
  }

  /** Called with the names of objects that other movers changed. */
  onChanged(listener: (names: ReadonlySet<string>) => Promise<void>): void {
    this.changeListeners.push(listener);
  }

  /** Obeys collections decided by now, without waiting for the next renewal, and says so. Throws as `assertWritable`. */
  async follow(): Promise<number> {
    await this.refresh();
    return this.follower.obey();
  }

  /** `follow`, and acknowledged at once. */
  async acknowledge(): Promise<void> {
    await this.lease?.acknowledge(await this.follow());
  }

  /** Makes what was taken durable, writes the index cache and gives the lease up. Writes nothing when the lease was lost. */
  async close(): Promise<void> {
    try {
      if (this.isLost) await this.blocks.abandon();
      else {
        await this.blocks.flush();
        await this.announce({});
      }
      // A cache that covers packs nobody was told of would hide them from the next start, which announces what is not covered.
      await this.index.close(this.lease !== undefined && !this.journal.hasUntold);
    } finally {
      // Whatever failed: a lease that is renewed for nobody would keep this mover itself from attaching again.
      try {
        await this.lease?.release();
      } finally {
        await this.store.close();
      }
    }
  }

  private readonly changeListeners: ((names: ReadonlySet<string>) => Promise<void>)[] = [];

  private async take({ packs, manifests, changed, everything }: Announced): Promise<void> {
    // Points before packs, as at the start.
    if (everything) await this.points.reload();
    else for (const name of manifests) this.points.note(name);
    await this.index.addAnnounced(everything ? await this.index.listed() : packs);
    await this.points.look(changed);
    for (const name of changed) this.journal.untell(name);
    if (everything) await this.quarantine.reload();
    else await this.quarantine.look(changed);
    if (everything || changed.has(SETTINGS_NAME)) await this.settings.reload();
    if (changed.size > 0) for (const listener of this.changeListeners) await listener(changed);
  }
}

function digestKeyOf(header: RepositoryHeader, keys: RepositoryKeys | undefined): Buffer {
  return keys ? keys.digestKey : Buffer.from(header.digestKey ?? '', 'hex');
}
