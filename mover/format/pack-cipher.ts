/**
 * Encryption of one pack: its own key, nonces from offsets, as docs/formats/encryption.md has it. A pack is written once from its start to its
 * end and its id is random, so that no offset is ever encrypted twice under one key. Pure.
 */
import { BlockErrors } from '../errors/mover-errors';
import { hexOf } from './block';
import { decrypt, deriveKey, encrypt, keyIdBytes, NONCE_BYTES, TAG_BYTES } from './encryption';

/** What is said of a block beside its bytes, and must stay true. */
export interface BlockTraits {
  readonly digest: Buffer;
  readonly codec: number;
  readonly kind: number;
  readonly rawLength: number;
}

export class PackCipher {
  private readonly key: Buffer;

  constructor(
    dataKey: Buffer,
    readonly keyId: string,
    packId: Buffer,
  ) {
    this.key = deriveKey(dataKey, packId, 'tidemark pack');
  }

  get keyIdBytes(): Buffer {
    return keyIdBytes(this.keyId);
  }

  /** A block's stored form for `offset` of the pack: ciphertext and tag, to be written one behind the other. */
  sealBlock(block: BlockTraits, offset: number, payload: Buffer): { body: Buffer; tag: Buffer } {
    return encrypt(this.key, nonceOf(offset), associatedWith(block), payload);
  }

  /** The stored form of what was read at `offset`; it replaces the ciphertext in the same memory. Throws BLOCK_CORRUPT. */
  openBlock(block: BlockTraits, offset: number, sealed: Buffer): Buffer {
    const payload = decrypt(this.key, nonceOf(offset), associatedWith(block), sealed);
    if (!payload) throw BlockErrors.BLOCK_CORRUPT({ digest: hexOf(block.digest), problem: 'it was changed after it was encrypted' });
    payload.copy(sealed);
    return sealed.subarray(0, payload.length);
  }

  /** The entry list for `offset`, bound to the footer's first 64 bytes; TAG_BYTES longer than the list. */
  sealList(footerStart: Buffer, offset: number, list: Buffer): Buffer {
    const { body, tag } = encrypt(this.key, nonceOf(offset), footerStart, list);
    return Buffer.concat([body, tag]);
  }

  /** Undefined when list, footer and pack do not belong together. */
  openList(footerStart: Buffer, offset: number, sealed: Buffer): Buffer | undefined {
    return decrypt(this.key, nonceOf(offset), footerStart, sealed);
  }
}

/** What an encrypted block takes in a pack. */
export function sealedLength(payloadLength: number): number {
  return payloadLength + TAG_BYTES;
}

function nonceOf(offset: number): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeBigUInt64BE(BigInt(offset), NONCE_BYTES - 8);
  return nonce;
}

function associatedWith({ digest, codec, kind, rawLength }: BlockTraits): Buffer {
  const associated = Buffer.allocUnsafe(digest.length + 6);
  digest.copy(associated);
  associated[digest.length] = codec;
  associated[digest.length + 1] = kind;
  associated.writeUInt32BE(rawLength, digest.length + 2);
  return associated;
}
