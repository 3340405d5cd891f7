/**
 * The repository's blocks: which it has, which somebody is about to send, where new ones go, how stored ones are read. Deduplicates across all
 * sessions. States of a digest: unknown → claimed by an owner → received (in a pack that is not durable yet) → durable; a failed pack
 * makes its digests unknown again. Only durable ones may count for a committed disk.
 */
import { BlockErrors } from '../../errors/mover-errors';
import { hexOf, verifiedRawForm } from '../../format/block';
import { PACK_HEADER_BYTES, packKeyId, type PackEntry } from '../../format/pack';
import type { PackCipher } from '../../format/pack-cipher';
import type { Store } from '../../stores/store';
import type { QuarantinedBlock } from '../../format/quarantine';
import { hasCode, type TidemarkError } from '../../../common/errors/tidemark-error';
import type { BlockLocation } from './block-location';
import type { PackIndex } from './pack-index';
import type { PackCiphers } from '../keys/pack-ciphers';
import { PackWriter, type StoredBlock } from './pack-writer';

/** After a failure of the store, puts are refused with it for this long instead of filling memory for the next failure. */
const failureHoldMs = 3_000;

/** What an offer of a digest means for the one who offers. */
export type Answer = 'known' | 'pending' | 'put';

/** Whoever promised to send blocks: a lane. Compared by identity. */
export type ClaimOwner = object;

/** A block as it was stored, decrypted, and as it was before that. */
export interface CheckedBlock {
  readonly location: BlockLocation;
  readonly stored: Buffer;
  readonly raw: Buffer;
}

export interface BlockStoreOptions {
  /** Milliseconds of a clock that nobody sets. */
  readonly ticks: () => number;
  /** Key of the repository's digests. */
  readonly digestKey: Buffer;
  /** Told of each copy of a block that was read and is damaged. */
  readonly damaged: (block: QuarantinedBlock) => void;
  /** Told of each pack that is durable. */
  readonly sealed: (id: string) => void;
  readonly packTargetBytes?: number;
  /** In an encrypted repository. */
  readonly ciphers?: PackCiphers;
}

export class BlockStore {
  private readonly claims = new Map<string, ClaimOwner>();
  private readonly claimsOf = new Map<ClaimOwner, Set<string>>();
  /** Digests in packs that are not durable yet. */
  private readonly received = new Set<string>();
  private readonly writer: PackWriter;
  private failure: { error: unknown; at: number } | undefined;
  /** Counts failed packs, so that a commit can tell whether one happened since it looked. */
  private failures = 0;
  private readonly ticks: () => number;
  private readonly ciphers: PackCiphers | undefined;
  private readonly digestKey: Buffer;
  private readonly damaged: (block: QuarantinedBlock) => void;
  private refresh: () => Promise<void> = () => Promise.resolve();

  constructor(
    private readonly store: Store,
    readonly index: PackIndex,
    repositoryId: string,
    options: BlockStoreOptions,
  ) {
    this.ticks = options.ticks;
    this.ciphers = options.ciphers;
    this.digestKey = options.digestKey;
    this.damaged = options.damaged;
    this.writer = new PackWriter(
      store,
      repositoryId,
      {
        sealed: (id, length, entries) => {
          index.addPack(id, length, entries);
          options.sealed(id);
          this.forget(entries);
        },
        failed: (entries, error) => {
          this.failure = { error, at: this.ticks() };
          this.failures++;
          this.forget(entries);
        },
      },
      options.packTargetBytes,
      options.ciphers,
    );
  }

  /** The last failure of a pack, when there was one after `since` failures; for a commit that finds blocks missing. */
  failureSince(since: number): unknown {
    return this.failures > since ? this.failure?.error : undefined;
  }

  get failureCount(): number {
    return this.failures;
  }

  /** Answers an offer and, for `put`, notes the claim. A claim ends with `putBlock` of the digest or `release` of its owner. */
  ask(digest: Buffer, owner: ClaimOwner): Answer {
    const key = digest.toString('latin1');
    if (this.received.has(key) || this.index.has(digest)) return 'known';
    const claimant = this.claims.get(key);
    if (claimant !== undefined) return claimant === owner ? 'put' : 'pending';
    this.claims.set(key, owner);
    let own = this.claimsOf.get(owner);
    if (!own) this.claimsOf.set(owner, (own = new Set()));
    own.add(key);
    return 'put';
  }

  /** Ends all claims of an owner. */
  release(owner: ClaimOwner): void {
    for (const key of this.claimsOf.get(owner) ?? []) if (this.claims.get(key) === owner) this.claims.delete(key);
    this.claimsOf.delete(owner);
  }

  /** True when the digest is in a durable pack or on its way into one. */
  isPresent(digest: Buffer): boolean {
    return this.received.has(digest.toString('latin1')) || this.index.has(digest);
  }

  isDurable(digest: Buffer): boolean {
    return this.index.has(digest);
  }

  /**
   * Takes a block's stored form. Returns at once (undefined) when there was room, else a promise; the payload may be reused when either is
   * done. A block that is present already is dropped. Throws or rejects with the store's failure while that is recent.
   */
  putBlock(block: StoredBlock): Promise<void> | undefined {
    const key = block.digest.toString('latin1');
    this.endClaim(key);
    if (this.received.has(key) || this.index.has(block.digest)) return undefined;
    if (this.failure && this.ticks() - this.failure.at < failureHoldMs) throw this.failure.error;
    if (this.writer.tryAppend(block)) {
      this.received.add(key);
      return undefined;
    }
    return this.putLater(block, key);
  }

  private async putLater(block: StoredBlock, key: string): Promise<void> {
    do {
      await this.writer.room();
      if (this.received.has(key) || this.index.has(block.digest)) return;
    } while (!this.writer.tryAppend(block));
    this.received.add(key);
  }

  /** Stores a block again, though it lies somewhere already, because that pack is to go. Waits for room; durable after `flush`. */
  async copyBlock(block: StoredBlock): Promise<void> {
    while (!this.writer.tryAppend(block)) await this.writer.room();
  }

  /** Resolves when all blocks taken so far are durable, or gone because the store failed. */
  async flush(): Promise<void> {
    await this.writer.flush();
  }

  /** Throws away what is not durable; for who may not write any more. */
  async abandon(): Promise<void> {
    await this.writer.abandon();
  }

  /** How to find out what other movers announced, for a block that is not known here. */
  refreshBy(refresh: () => Promise<void>): void {
    this.refresh = refresh;
  }

  /** Place of a durable block, also one that another mover made. Throws BLOCK_MISSING. */
  async locate(digest: Buffer): Promise<BlockLocation> {
    let location = await this.index.locate(digest);
    if (!location) {
      await this.refresh();
      location = await this.index.locate(digest);
    }
    if (!location) throw BlockErrors.BLOCK_MISSING({ digest: hexOf(digest), problem: 'no pack holds it' });
    return location;
  }

  /** Reads `target.length` bytes of a pack at `offset`, as they lie there. Throws BLOCK_MISSING (for `digest`) when the pack is gone or too short. */
  async readPack(location: BlockLocation, offset: number, target: Buffer, digest: Buffer): Promise<void> {
    const name = this.index.packNameOf(location);
    try {
      if ((await this.store.read(name, offset, target)) === target.length) return;
    } catch (error) {
      if (!hasCode(error, 'OBJECT_NOT_FOUND')) throw error;
      throw BlockErrors.BLOCK_MISSING({ digest: hexOf(digest), problem: `${name} is missing` }, { cause: error });
    }
    throw BlockErrors.BLOCK_MISSING({ digest: hexOf(digest), problem: `${name} is cut short` });
  }

  /**
   * Cipher of the pack where a block lies; undefined in a repository in the clear. What `readPack` reads is decrypted with it before anything
   * else looks at it. Throws BLOCK_CORRUPT (for `digest`) when the pack's key is unknown, and as `readPack`.
   */
  async cipherOf(location: BlockLocation, digest: Buffer): Promise<PackCipher | undefined> {
    if (!this.ciphers) return undefined;
    const id = this.index.packs.idOf(location.pack);
    const known = this.ciphers.withoutHeader(id);
    if (known) return known;
    const header = Buffer.alloc(PACK_HEADER_BYTES);
    await this.readPack(location, 0, header, digest);
    let cipher: PackCipher | undefined;
    try {
      cipher = this.ciphers.forPack(id, packKeyId(header, this.index.packNameOf(location)));
    } catch (cause) {
      throw BlockErrors.BLOCK_CORRUPT({ digest: hexOf(digest), problem: 'the header of its pack is damaged' }, { cause });
    }
    if (cipher) return cipher;
    throw BlockErrors.BLOCK_CORRUPT({
      digest: hexOf(digest),
      problem: 'its pack is encrypted with a key that the repository does not have',
    });
  }

  /** Stored form of a block, decrypted, as a view on `target`, which has at least the stored length. Throws BLOCK_MISSING, BLOCK_CORRUPT. */
  async readBlock(location: BlockLocation, digest: Buffer, target: Buffer): Promise<Buffer> {
    const sealed = target.subarray(0, location.storedLength);
    const cipher = await this.cipherOf(location, digest);
    await this.readPack(location, location.offset, sealed, digest);
    return cipher ? cipher.openBlock({ ...location, digest }, location.offset, sealed) : sealed;
  }

  /**
   * A block, checked, from the first of its copies that is good, in new memory. Copies that are not go into quarantine. Throws what is wrong with the
   * first copy: BLOCK_MISSING, BLOCK_CORRUPT, REPOSITORY_IO.
   */
  async readChecked(digest: Buffer): Promise<CheckedBlock> {
    const tried: BlockLocation[] = [];
    let failure: unknown;
    let refreshed = false;
    for (let location: BlockLocation | undefined = await this.locate(digest); location;) {
      try {
        const stored = await this.readBlock(location, digest, Buffer.allocUnsafe(location.storedLength));
        return { location, stored, raw: verifiedRawForm(this.digestKey, stored, location.codec, location.rawLength, digest) };
      } catch (error) {
        if (!isDamage(error)) throw error;
        failure ??= error;
        tried.push(location);
        this.tell(digest, location, error);
      }
      const next = () =>
        this.index.findAll(digest).find(({ pack, offset }) => !tried.some((other) => other.pack === pack && other.offset === offset));
      location = next();
      if (!location && !refreshed) {
        // Its pack may have been rewritten by a collection, which announced where it lies now.
        refreshed = true;
        await this.refresh();
        location = next();
      }
    }
    throw failure;
  }

  private tell(digest: Buffer, { pack, offset }: BlockLocation, error: unknown): void {
    const packId = this.index.packs.idOf(pack);
    // A device that fails says nothing of what lies on it, and what a collection has deleted is not damaged.
    if (hasCode(error, 'REPOSITORY_IO') || !this.index.packs.exists(pack) || this.index.packs.isCondemned(packId)) return;
    if (this.index.isQuarantined(packId, offset)) return;
    const { code } = error as TidemarkError;
    this.damaged({ digest: hexOf(digest), packId, offset, code, foundAt: new Date().toISOString() });
  }

  private endClaim(key: string): void {
    const owner = this.claims.get(key);
    if (owner === undefined) return;
    this.claims.delete(key);
    this.claimsOf.get(owner)?.delete(key);
  }

  private forget(entries: readonly PackEntry[]): void {
    for (const entry of entries) this.received.delete(entry.digest.toString('latin1'));
  }
}

/** True for what another copy of the block may be free of: damage, and a sector that cannot be read. */
export function isDamage(error: unknown): boolean {
  if (hasCode(error, 'REPOSITORY_IO')) return error.meta['reason'] === 'EIO';
  return hasCode(error, 'BLOCK_MISSING') || hasCode(error, 'BLOCK_CORRUPT');
}
