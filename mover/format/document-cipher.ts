/** Encryption of the sections of sealed documents, as docs/formats/encryption.md has it. Pure. */
import { deriveKey, keyIdBytes, keyIdText, openBytes, sealBytes } from './encryption';

const keyIdLength = 16;

/** The data keys that a document may be encrypted with. */
export interface DataKeys {
  readonly current: { readonly keyId: string; readonly key: Buffer };
  /** Undefined for a key that is not in the ring. */
  find(keyId: string): Buffer | undefined;
}

/** Encrypts and decrypts the sections of one document; its name in the store is part of the key, so that documents cannot be exchanged. */
export class DocumentCipher {
  constructor(
    private readonly keys: DataKeys,
    private readonly name: string,
  ) {}

  /** Id of the data key ‖ nonce ‖ ciphertext ‖ tag. */
  seal(associated: Buffer, content: Buffer): Buffer {
    const { keyId, key } = this.keys.current;
    return Buffer.concat([keyIdBytes(keyId), sealBytes(this.derive(key), associated, content)]);
  }

  /** Undefined when it was changed, or is of another document or repository. */
  open(associated: Buffer, sealed: Buffer): Buffer | undefined {
    const key = sealed.length < keyIdLength ? undefined : this.keys.find(keyIdText(sealed.subarray(0, keyIdLength)));
    return key && openBytes(this.derive(key), associated, sealed.subarray(keyIdLength));
  }

  private derive(dataKey: Buffer): Buffer {
    return deriveKey(dataKey, Buffer.from(this.name), 'tidemark document');
  }
}

/** How much longer a section gets. */
export const SEALED_SECTION_EXTRA_BYTES = keyIdLength + 12 + 16;
