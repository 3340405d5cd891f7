/**
 * One repository: header, lock, pack index, blocks, index pages and points, put together. The format is written in docs/formats/. It
 * knows nothing of sessions, tickets or the network.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import path from 'node:path';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { RepositoryErrors } from '../errors/mover-errors';
import { BlockCodec } from '../format/block';
import { decodeHeaderDocument, encodeHeaderDocument, HEADER_NAME, type RepositoryHeader } from '../format/repository-header';
import type { RepositoryKey } from '../format/key-slot';
import type { PointDiskRecord } from '../format/manifest';
import { blockCount } from '../format/index-page';
import type { Store } from '../stores/store';
import { BlockStore } from './block-store';
import { DiskTree } from './disk-tree';
import { defaultIndexLimits, PackIndex, type PackIndexLimits } from './pack-index';
import { PageStore } from './page-store';
import { PointCatalog } from './point-catalog';
import { openKeys } from './open-keys';
import { PackCiphers } from './pack-ciphers';
import type { RepositoryKeys } from './repository-keys';
import { RepositoryLock, type LockOptions } from './repository-lock';

const maxHeaderBytes = 64 * 1024;

export interface RepositorySettings {
  readonly blockSizeBytes: number;
  readonly codec: 'none' | 'zstd';
  readonly codecLevel: number;
}

export const defaultSettings: RepositorySettings = { blockSizeBytes: 1024 * 1024, codec: 'zstd', codecLevel: 1 };

export interface OpenOptions {
  /** Folder for caches; a subfolder per repository is made. */
  readonly cacheFolder: string;
  /** Absent: for reading only, without a lock. */
  readonly lock?: LockOptions;
  /** Needed for an encrypted repository. */
  readonly key?: RepositoryKey | undefined;
  readonly logger: Logger;
  readonly now?: () => number;
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
  readonly codec: BlockCodec;

  private constructor(
    readonly store: Store,
    readonly header: RepositoryHeader,
    readonly index: PackIndex,
    readonly blocks: BlockStore,
    readonly pages: PageStore,
    readonly points: PointCatalog,
    private readonly lock: RepositoryLock | undefined,
    /** Of an encrypted repository. */
    readonly keys: RepositoryKeys | undefined,
  ) {
    this.digestKey = digestKeyOf(header, keys);
    this.codec = codecOf(header);
  }

  /**
   * Opens a repository: takes the lock (when asked to write), removes what unfinished writes left, loads or rebuilds the pack index.
   * Throws as `readHeader` and `openKeys`, and REPOSITORY_LOCKED. With a wrong key nothing was written.
   */
  static async open(store: Store, options: OpenOptions): Promise<Repository> {
    const header = await readHeader(store);
    const keys = await openKeys(store, header, options.key);
    const lock = options.lock ? await RepositoryLock.acquire(store, header.repositoryId, options.lock, options.logger) : undefined;
    try {
      if (lock) await store.removeLeftovers();
      if (lock) await keys?.refresh();
      // Points before packs: whatever a manifest that is seen reaches was durable before it.
      const points = await PointCatalog.load(store, keys);
      const folder = path.join(options.cacheFolder, header.repositoryId);
      const ciphers = keys && new PackCiphers(keys);
      const index = await PackIndex.open(store, folder, options.logger, options.indexLimits ?? defaultIndexLimits, ciphers);
      const blocks = new BlockStore(store, index, header.repositoryId, options.now ?? Date.now, options.packTargetBytes, ciphers);
      const pages = new PageStore(blocks, digestKeyOf(header, keys), codecOf(header), header.codecLevel);
      return new Repository(store, header, index, blocks, pages, points, lock, keys);
    } catch (error) {
      await lock?.release().catch(() => undefined);
      throw error;
    }
  }

  get id(): string {
    return this.header.repositoryId;
  }

  get blockSizeBytes(): number {
    return this.header.blockSizeBytes;
  }

  /** Index tree of a disk of a point. */
  tree(disk: Pick<PointDiskRecord, 'indexRoot' | 'sizeBytes'>, blockSizeBytes = this.blockSizeBytes): DiskTree {
    return new DiskTree(this.pages, Buffer.from(disk.indexRoot, 'hex'), blockCount(disk.sizeBytes, blockSizeBytes));
  }

  /** Throws REPOSITORY_LOCK_LOST; call it before anything becomes visible. */
  async assertWritable(): Promise<void> {
    if (!this.lock) throw RepositoryErrors.REPOSITORY_LOCK_LOST({ repositoryId: this.id });
    await this.lock.assertHeld();
  }

  /** True when another mover may write here by now: nothing more must be written. */
  get isLost(): boolean {
    return this.lock?.isLost === true;
  }

  /** Makes what was taken durable, writes the index cache and gives the lock up. Writes nothing when the lock was lost. */
  async close(): Promise<void> {
    if (this.isLost) await this.blocks.abandon();
    else await this.blocks.flush();
    await this.index.close(this.lock !== undefined);
    await this.lock?.release();
    await this.store.close();
  }
}

function digestKeyOf(header: RepositoryHeader, keys: RepositoryKeys | undefined): Buffer {
  return keys ? keys.digestKey : Buffer.from(header.digestKey ?? '', 'hex');
}

function codecOf(header: RepositoryHeader): BlockCodec {
  return header.codec === 'zstd' ? BlockCodec.zstd : BlockCodec.none;
}
