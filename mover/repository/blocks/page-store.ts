import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { RepositoryErrors } from '../../errors/mover-errors';
import { BlockKind, blockDigest, hexOf, isZero, storeForm, ZERO_DIGEST, type BlockCodec } from '../../format/block';
import { PAGE_BYTES } from '../../format/index-page';
import type { BlockStore } from './block-store';

const cachedPages = 256;

/** Index pages as blocks: reads them verified through a small cache (2 MiB), stores new ones. */
export class PageStore {
  private readonly cache = new Map<string, Buffer>();

  constructor(
    private readonly blocks: BlockStore,
    private readonly digestKey: Buffer,
    private readonly settings: { readonly codec: BlockCodec; readonly codecLevel: number },
  ) {}

  /** A page by its digest, which is not zero; not to be written to. Throws INDEX_PAGE_DAMAGED, REPOSITORY_IO. */
  async read(digest: Buffer): Promise<Buffer> {
    const key = digest.toString('latin1');
    const cached = this.cache.get(key);
    if (cached) {
      this.cache.delete(key);
      this.cache.set(key, cached);
      return cached;
    }
    const page = await this.load(digest);
    this.cache.set(key, page);
    if (this.cache.size > cachedPages) this.cache.delete(this.cache.keys().next().value as string);
    return page;
  }

  /** As `read`, past the cache: what is on the disk now. */
  async load(digest: Buffer): Promise<Buffer> {
    try {
      const { raw: page } = await this.blocks.readChecked(digest);
      if (page.length === PAGE_BYTES) return page;
      throw RepositoryErrors.INDEX_PAGE_DAMAGED({ digest: hexOf(digest), problem: `it has ${page.length} bytes` });
    } catch (error) {
      if (isTidemarkError(error) && (error.code === 'BLOCK_MISSING' || error.code === 'BLOCK_CORRUPT'))
        throw RepositoryErrors.INDEX_PAGE_DAMAGED({ digest: hexOf(digest), problem: String(error.meta['problem']) }, { cause: error });
      throw error;
    }
  }

  /** Stores a page unless it is there; resolves with its digest and the bytes added. Durable only after a flush of the block store. */
  async write(page: Buffer): Promise<{ digest: Buffer; storedBytes: number }> {
    if (isZero(page)) return { digest: ZERO_DIGEST, storedBytes: 0 };
    const digest = blockDigest(this.digestKey, page);
    if (this.blocks.isPresent(digest)) return { digest, storedBytes: 0 };
    const { codec, payload } = storeForm(page, this.settings.codec, this.settings.codecLevel);
    await this.blocks.putBlock({ digest, codec, kind: BlockKind.page, rawLength: PAGE_BYTES, payload });
    return { digest, storedBytes: payload.length };
  }
}
