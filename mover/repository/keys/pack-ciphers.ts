import type { DataKeys } from '../../format/document-cipher';
import { PackCipher } from '../../format/pack-cipher';
import { uuidBytes } from '../blocks/pack-table';

const remembered = 512;

/** The ciphers of an encrypted repository's packs; those used last are kept, so that a key is derived once for many blocks. */
export class PackCiphers {
  private readonly byPack = new Map<string, PackCipher>();

  constructor(private readonly keys: DataKeys & { readonly ringSize: number }) {}

  /** For a pack that begins now. */
  forNewPack(packId: string): PackCipher {
    const { keyId, key } = this.keys.current;
    return this.remember(packId, new PackCipher(key, keyId, uuidBytes(packId)));
  }

  /** For a pack that was written with a data key; undefined when that is not in the ring. */
  forPack(packId: string, keyId: string): PackCipher | undefined {
    const known = this.byPack.get(packId);
    if (known?.keyId === keyId) return known;
    const key = this.keys.find(keyId);
    return key && this.remember(packId, new PackCipher(key, keyId, uuidBytes(packId)));
  }

  /** For a pack whose header was not read; undefined when that has to be done. */
  withoutHeader(packId: string): PackCipher | undefined {
    const known = this.byPack.get(packId);
    if (known) return known;
    return this.keys.ringSize === 1 ? this.forPack(packId, this.keys.current.keyId) : undefined;
  }

  private remember(packId: string, cipher: PackCipher): PackCipher {
    this.byPack.delete(packId);
    this.byPack.set(packId, cipher);
    if (this.byPack.size > remembered) this.byPack.delete(this.byPack.keys().next().value as string);
    return cipher;
  }
}
