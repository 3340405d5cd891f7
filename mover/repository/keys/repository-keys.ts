/**
 * The keys of one encrypted repository, opened: which data keys there are, which is the current one, and which slots lead to them. Changes are
 * durable before anything is encrypted with what is new. The bytes are format/keys-document.ts; the design is docs/formats/encryption.md.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { hasCode, isTidemarkError, type TidemarkError } from '../../../common/errors/tidemark-error';
import { Secret } from '../../../common/log/redact';
import { EncryptionErrors } from '../../errors/encryption-errors';
import { RepositoryErrors } from '../../errors/mover-errors';
import { DocumentCipher, type DataKeys } from '../../format/document-cipher';
import { KEY_BYTES } from '../../format/encryption';
import {
  findSlot,
  makeSlot,
  unwrapFromSlot,
  wrapForSlot,
  type KeySlot,
  type RepositoryKey,
  type scryptCost,
  type SlotKind,
} from '../../format/key-slot';
import {
  decodeKeys,
  encodeKeys,
  keysCopyName,
  keysName,
  MAX_KEY_SLOTS,
  unwrapKey,
  wrapKey,
  type KeysDocument,
} from '../../format/keys-document';
import { formatRecoveryKey } from '../../../common/secrets/recovery-key';
import type { Store } from '../../stores/store';
import { SerialQueue } from '../../../common/flow/serial-queue';

const maxKeysBytes = 4 * 1024 * 1024;

/** Keys in the clear, and the slot that led to them. */
interface OpenKeys {
  readonly document: KeysDocument;
  readonly masterKey: Buffer;
  readonly ring: ReadonlyMap<string, Buffer>;
  readonly digestKey: Buffer;
  readonly slotId: string;
  readonly slotKey: Buffer;
}

/** A key of a slot that a person chose or keeps. */
export type SlotSecret = RepositoryKey & { readonly kind: SlotKind };

export class RepositoryKeys implements DataKeys {
  private readonly changes = new SerialQueue();

  private constructor(
    private readonly store: Store,
    private readonly name: string,
    private open: OpenKeys,
  ) {}

  /**
   * Makes the keys of a new repository and writes them: a slot for `key` and one for a recovery key, which is returned and kept nowhere. The
   * object is of no use before a header names it.
   */
  static async create(
    store: Store,
    repositoryId: string,
    key: SlotSecret,
    now: Date,
    cost?: typeof scryptCost,
  ): Promise<{ keys: RepositoryKeys; recoveryKey: Secret }> {
    const masterKey = randomBytes(KEY_BYTES);
    const digestKey = randomBytes(KEY_BYTES);
    const dataKey = { keyId: randomUUID(), createdAt: now.toISOString(), key: randomBytes(KEY_BYTES) };
    const recoveryKey = newRecoveryKey();
    const own = await makeSlot(key, randomUUID(), now, cost);
    const recovery = await makeSlot({ kind: 'recovery', secret: recoveryKey }, randomUUID(), now);
    const document: KeysDocument = {
      repositoryId,
      slots: [own.slot, recovery.slot].map((slot) => ({ ...slot, wrappedMasterKey: wrapForSlot(slot, repositoryId, masterKey) })),
      ring: [
        {
          keyId: dataKey.keyId,
          createdAt: dataKey.createdAt,
          wrapped: wrapKey(masterKey, repositoryId, dataKeyPurpose(dataKey.keyId), dataKey.key),
        },
      ],
      currentKeyId: dataKey.keyId,
      wrappedDigestKey: wrapKey(masterKey, repositoryId, digestKeyPurpose, digestKey),
    };
    const ring = new Map([[dataKey.keyId, dataKey.key]]);
    const open = { document, masterKey, ring, digestKey, slotId: own.slot.slotId, slotKey: own.slotKey };
    const keys = new RepositoryKeys(store, keysName(repositoryId), open);
    const bytes = encodeKeys(document, masterKey);
    for (const name of [keys.name, keysCopyName(keys.name)]) await store.put(name, bytes);
    return { keys, recoveryKey };
  }

  /**
   * Opens the keys that a header names; writes nothing. Throws REPOSITORY_KEY_WRONG, ARGUMENT_INVALID (the key is not one), OBJECT_DAMAGED when
   * neither they nor their copy can be used.
   */
  static async open(store: Store, repositoryId: string, name: string, key: RepositoryKey): Promise<RepositoryKeys> {
    return new RepositoryKeys(store, name, await readKeys(store, repositoryId, name, key));
  }

  get digestKey(): Buffer {
    return this.open.digestKey;
  }

  get current(): { readonly keyId: string; readonly key: Buffer } {
    const keyId = this.open.document.currentKeyId;
    return { keyId, key: this.open.ring.get(keyId) as Buffer };
  }

  find(keyId: string): Buffer | undefined {
    return this.open.ring.get(keyId);
  }

  /** How many data keys there are. */
  get ringSize(): number {
    return this.open.ring.size;
  }

  /** When the current data key was made. */
  get rotatedAt(): Date {
    const { ring, currentKeyId } = this.open.document;
    return new Date(ring.find((entry) => entry.keyId === currentKeyId)?.createdAt ?? 0);
  }

  get slots(): readonly KeySlot[] {
    return this.open.document.slots;
  }

  /** The slot through which the keys were opened. */
  get ownSlotId(): string {
    return this.open.slotId;
  }

  /** What opens the same slot again, for a mover to keep. */
  get slotKey(): RepositoryKey {
    return { kind: 'slot-key', secret: new Secret(this.open.slotKey.toString('hex')) };
  }

  /** Cipher of the sealed document of that name. */
  document(name: string): DocumentCipher {
    return new DocumentCipher(this, name);
  }

  /** Reads the keys again and makes their copy right; for who may write. Throws as `open`. */
  async refresh(): Promise<void> {
    await this.changes.run(async () => {
      await this.readAgain();
      await this.repair();
    });
  }

  /** Reads the keys again: another mover may have changed them. Throws as `open`. */
  async reload(): Promise<void> {
    await this.changes.run(() => this.readAgain());
  }

  /** Goes over to another slot of the same repository. Throws as `open`. */
  async reopen(key: RepositoryKey): Promise<void> {
    await this.changes.run(async () => {
      this.open = await readKeys(this.store, this.open.document.repositoryId, this.name, key);
    });
  }

  /**
   * New master and data keys for what is written from now on. Old data keys stay in the ring; every slot stays as it is. Of several movers
   * that rotate at the same time each makes its own rotation, one after the other.
   */
  async rotate(now: Date): Promise<void> {
    await this.change((open) => {
      const { document } = open;
      const { repositoryId } = document;
      const masterKey = randomBytes(KEY_BYTES);
      const keyId = randomUUID();
      const ring = new Map([...open.ring, [keyId, randomBytes(KEY_BYTES)]]);
      const entries = [...document.ring, { keyId, createdAt: now.toISOString() }].map((entry) => ({
        keyId: entry.keyId,
        createdAt: entry.createdAt,
        wrapped: wrapKey(masterKey, repositoryId, dataKeyPurpose(entry.keyId), ring.get(entry.keyId) as Buffer),
      }));
      const slots = document.slots.map((slot) => ({ ...slot, wrappedMasterKey: wrapForSlot(slot, repositoryId, masterKey) }));
      const wrappedDigestKey = wrapKey(masterKey, repositoryId, digestKeyPurpose, open.digestKey);
      return { ...open, masterKey, ring, document: { repositoryId, slots, ring: entries, currentKeyId: keyId, wrappedDigestKey } };
    });
  }

  /** Another way in. A slot of that id is replaced. Throws REPOSITORY_KEY_SLOTS_FULL, REPOSITORY_KEY_SLOT_IN_USE, ARGUMENT_INVALID. */
  async addSlot(slotId: string, key: SlotSecret, now: Date): Promise<void> {
    const { slot } = await makeSlot(key, slotId, now);
    await this.change((open) => {
      const { document, masterKey } = open;
      if (slotId === open.slotId) throw EncryptionErrors.REPOSITORY_KEY_SLOT_IN_USE({ slotId });
      const others = document.slots.filter((other) => other.slotId !== slotId);
      if (others.length >= MAX_KEY_SLOTS) throw EncryptionErrors.REPOSITORY_KEY_SLOTS_FULL({ limit: MAX_KEY_SLOTS });
      const whole = { ...slot, wrappedMasterKey: wrapForSlot(slot, document.repositoryId, masterKey) };
      return { ...open, document: { ...document, slots: [...others, whole] } };
    });
  }

  /** A new recovery key in a slot of its own; it is returned and kept nowhere. Throws as `addSlot`. */
  async addRecoveryKey(slotId: string, now: Date): Promise<Secret> {
    const recoveryKey = newRecoveryKey();
    await this.addSlot(slotId, { kind: 'recovery', secret: recoveryKey }, now);
    return recoveryKey;
  }

  /** Throws REPOSITORY_KEY_SLOT_NOT_FOUND, and REPOSITORY_KEY_SLOT_IN_USE for the one through which the keys were opened. */
  async removeSlot(slotId: string): Promise<void> {
    await this.change((open) => {
      const { document } = open;
      if (slotId === open.slotId) throw EncryptionErrors.REPOSITORY_KEY_SLOT_IN_USE({ slotId });
      const slots = document.slots.filter((slot) => slot.slotId !== slotId);
      if (slots.length === document.slots.length) throw EncryptionErrors.REPOSITORY_KEY_SLOT_NOT_FOUND({ slotId });
      return { ...open, document: { ...document, slots } };
    });
  }

  /** Changes what is stored now, not what was stored when it was read: another mover may have changed it meanwhile. */
  private async change(next: (open: OpenKeys) => OpenKeys): Promise<void> {
    await this.changes.run(async () => {
      for (;;) {
        await this.readAgain();
        await this.repair();
        const open = next(this.open);
        const bytes = encodeKeys(open.document, open.masterKey);
        if (!(await this.store.swap(this.name, encodeKeys(this.open.document, this.open.masterKey), bytes))) continue;
        this.open = open;
        await this.repair();
        return;
      }
    });
  }

  private async readAgain(): Promise<void> {
    this.open = await readKeys(this.store, this.open.document.repositoryId, this.name, this.slotKey);
  }

  private async isGood(): Promise<boolean> {
    try {
      await readOne(this.store, this.open.document.repositoryId, this.name, this.slotKey);
      return true;
    } catch (error) {
      if (hasCode(error, 'OBJECT_NOT_FOUND', 'OBJECT_DAMAGED')) return false;
      throw error;
    }
  }

  /** Puts back damaged keys from their copy, and makes the copy what the keys are. */
  private async repair(): Promise<void> {
    for (;;) {
      const bytes = encodeKeys(this.open.document, this.open.masterKey);
      const found = await readBytes(this.store, this.name);
      if (!found?.equals(bytes)) {
        // Another mover changed them: its repair does the rest.
        if (await this.isGood()) return;
        await (found ? this.store.swap(this.name, found, bytes) : this.store.putNew(this.name, bytes));
        continue;
      }
      const copy = await readBytes(this.store, keysCopyName(this.name));
      if (copy?.equals(bytes)) return;
      await this.store.put(keysCopyName(this.name), bytes);
    }
  }
}

const digestKeyPurpose = 'digest key';

function dataKeyPurpose(keyId: string): string {
  return `data key ${keyId}`;
}

function newRecoveryKey(): Secret {
  return new Secret(formatRecoveryKey(randomBytes(KEY_BYTES)));
}

async function readBytes(store: Store, name: string): Promise<Buffer | undefined> {
  try {
    return await store.readWhole(name, maxKeysBytes);
  } catch (error) {
    if (hasCode(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
}

/** The keys, or their copy when they are damaged. */
async function readKeys(store: Store, repositoryId: string, name: string, key: RepositoryKey): Promise<OpenKeys> {
  let damage: TidemarkError | undefined;
  for (const object of [name, keysCopyName(name)]) {
    try {
      return await readOne(store, repositoryId, object, key);
    } catch (error) {
      if (!isTidemarkError(error) || !['OBJECT_NOT_FOUND', 'OBJECT_DAMAGED'].includes(error.code)) throw error;
      damage ??= error;
    }
  }
  const problem = `neither it nor its copy can be used (${damage?.message ?? ''})`;
  throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem }, damage && { cause: damage });
}

async function readOne(store: Store, repositoryId: string, name: string, key: RepositoryKey): Promise<OpenKeys> {
  const damaged = (problem: string) => RepositoryErrors.OBJECT_DAMAGED({ object: name, problem });
  const decoded = decodeKeys(await store.readWhole(name, maxKeysBytes), name);
  const { document } = decoded;
  if (document.repositoryId !== repositoryId) throw damaged(`it is of repository ${document.repositoryId}`);
  const found = await findSlot(document.slots, key);
  if (!found) throw EncryptionErrors.REPOSITORY_KEY_WRONG({ repositoryId, kind: key.kind });
  const { slot, slotKey } = found;
  const masterKey = unwrapFromSlot(slot, repositoryId, slotKey);
  if (!masterKey || !decoded.isGenuine(masterKey)) throw damaged('it was changed by somebody without a key');
  const digestKey = unwrapKey(masterKey, repositoryId, digestKeyPurpose, document.wrappedDigestKey);
  const ring = new Map<string, Buffer>();
  for (const { keyId, wrapped } of document.ring) {
    const dataKey = unwrapKey(masterKey, repositoryId, dataKeyPurpose(keyId), wrapped);
    if (dataKey) ring.set(keyId, dataKey);
  }
  if (!digestKey || ring.size !== document.ring.length || !ring.has(document.currentKeyId)) throw damaged('a key in it cannot be opened');
  return { document, masterKey, ring, digestKey, slotId: slot.slotId, slotKey };
}
