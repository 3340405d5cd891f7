import { randomBytes, randomUUID } from 'node:crypto';
import { Secret } from '../../common/log/redact';
import { SecretBox } from '../../common/secrets/secret-box';
import type { RepositoryRow } from '../catalogue/repository-store';

/** A key of a bucket or a share. */
export interface StoreAccess {
  readonly accessKeyId: string;
  readonly secretAccessKey: Secret;
  /** Empty: the server's certificate was signed by a public CA. */
  readonly caPem: string;
}

/** The same as an administrator gives it. */
export interface GivenAccess {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly caPem?: string | undefined;
}

export function accessFrom({ accessKeyId, secretAccessKey, caPem }: GivenAccess): StoreAccess {
  return { accessKeyId, secretAccessKey: new Secret(secretAccessKey), caPem: caPem ?? '' };
}

/** A key slot of an encrypted repository that is the server's own: it can be removed, and tells nothing of the administrator's keys. */
export interface ServerKey {
  readonly slotId: string;
  /** The content of a key file: 64 hexadecimal digits. */
  readonly secret: Secret;
}

/** What a gateway needs to open a repository. */
export interface OpeningSecrets {
  readonly access?: StoreAccess | undefined;
  readonly key?: ServerKey | undefined;
}

interface Sealed {
  readonly access?: { readonly accessKeyId: string; readonly sealedSecret: string; readonly caPem: string };
  readonly key?: { readonly slotId: string; readonly sealedSecret: string };
}

/** Seals what gateways need for the catalogue; see docs/adr on gateway keys. Each secret is bound to its repository and its use. */
export class RepositorySecrets {
  #box: SecretBox | undefined;

  constructor(private readonly keyFile: string) {}

  /** A new key for a slot of the server's own. */
  static createKey(): ServerKey {
    return { slotId: randomUUID(), secret: new Secret(randomBytes(32).toString('hex')) };
  }

  /** Null when there is nothing to keep. Throws SECRETS_DAMAGED. */
  seal(repositoryId: string, { access, key }: OpeningSecrets): string | null {
    if (!access && !key) return null;
    const sealed: Sealed = {
      ...(access && {
        access: {
          accessKeyId: access.accessKeyId,
          sealedSecret: this.#open().seal(access.secretAccessKey, `access ${repositoryId}`),
          caPem: access.caPem,
        },
      }),
      ...(key && { key: { slotId: key.slotId, sealedSecret: this.#open().seal(key.secret, `key ${repositoryId}`) } }),
    };
    return JSON.stringify(sealed);
  }

  /** Throws SECRETS_DAMAGED. */
  open({ id, sealedJson }: Pick<RepositoryRow, 'id' | 'sealedJson'>): OpeningSecrets {
    if (sealedJson === null) return {};
    const { access, key } = JSON.parse(sealedJson) as Sealed;
    return {
      ...(access && {
        access: {
          accessKeyId: access.accessKeyId,
          secretAccessKey: this.#open().open(access.sealedSecret, `access ${id}`),
          caPem: access.caPem,
        },
      }),
      ...(key && { key: { slotId: key.slotId, secret: this.#open().open(key.sealedSecret, `key ${id}`) } }),
    };
  }

  /** The slot that is the server's own, without its secret. */
  static slotOf({ sealedJson }: Pick<RepositoryRow, 'sealedJson'>): string | undefined {
    return sealedJson === null ? undefined : (JSON.parse(sealedJson) as Sealed).key?.slotId;
  }

  #open(): SecretBox {
    return (this.#box ??= SecretBox.open(this.keyFile));
  }
}
