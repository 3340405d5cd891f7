import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { z } from 'zod';
import { CommonErrors } from '../../common/errors/common-errors';
import { Secret } from '../../common/log/redact';
import { formatRecoveryKey } from '../../common/secrets/recovery-key';
import { privateKeyOf, publicBytes } from '../../common/secrets/x25519';
import { durableWrite } from '../../common/tls/durable-write';
import { ConfigurationErrors } from '../errors/configuration-errors';

const schema = z.strictObject({
  /** X25519, 32 bytes in base64. */
  publicKey: z.base64(),
  createdAt: z.iso.datetime(),
  /** The recovery key while nobody saw it yet. */
  unseen: z.string().optional(),
});

type KeyFile = z.infer<typeof schema>;

/** For whom copies of the configuration are sealed. */
export interface Recipient {
  readonly publicKey: Buffer;
  readonly createdAt: string;
}

/** Tells recipients apart: 16 hexadecimal digits. */
export function fingerprintOfKey(publicKey: Buffer): string {
  return createHash('sha256').update(publicKey).digest('hex').slice(0, 16);
}

/**
 * The key that copies of the configuration are sealed for. The server has its public half; the private half is the recovery key, which the administrator
 * sees once. Until then it is in the file, beside the CA's key and the first password, which tell whoever reads them no less.
 */
export class ConfigurationKey implements Recipient {
  private constructor(
    private readonly file: string,
    private content: KeyFile,
  ) {}

  /** Makes the key at first use. Throws CONFIGURATION_INVALID when the file is damaged. */
  static open(file: string, now: Date): ConfigurationKey {
    if (!fs.existsSync(file)) {
      const { content, recoveryKey } = make(now);
      durableWrite(file, JSON.stringify({ ...content, unseen: recoveryKey.reveal() }), 0o600);
    }
    try {
      return new ConfigurationKey(file, schema.parse(JSON.parse(fs.readFileSync(file, 'utf8'))));
    } catch (cause) {
      const problems = `${file} is damaged; remove it, and "tidemark config key show-once" shows a new recovery key`;
      throw CommonErrors.CONFIGURATION_INVALID({ problems }, { cause });
    }
  }

  get publicKey(): Buffer {
    return Buffer.from(this.content.publicKey, 'base64');
  }

  get createdAt(): string {
    return this.content.createdAt;
  }

  get fingerprint(): string {
    return fingerprintOfKey(this.publicKey);
  }

  /** False until the administrator took the recovery key: without it no copy can be opened. */
  get wasShown(): boolean {
    return this.content.unseen === undefined;
  }

  /** The recovery key, the first time. Throws CONFIGURATION_KEY_SHOWN. */
  showOnce(): Secret {
    const { unseen, ...rest } = this.content;
    if (unseen === undefined) throw ConfigurationErrors.CONFIGURATION_KEY_SHOWN({});
    this.write(rest);
    return new Secret(unseen);
  }

  /** Another key for copies from now on; the recovery key. Copies of before open with the one of before. */
  renew(now: Date): Secret {
    const { content, recoveryKey } = make(now);
    this.write(content);
    return recoveryKey;
  }

  private write(content: KeyFile): void {
    durableWrite(this.file, JSON.stringify(content), 0o600);
    this.content = content;
  }
}

function make(now: Date): { content: KeyFile; recoveryKey: Secret } {
  const seed = randomBytes(32);
  const publicKey = publicBytes(privateKeyOf(seed)).toString('base64');
  return { content: { publicKey, createdAt: now.toISOString() }, recoveryKey: new Secret(formatRecoveryKey(seed)) };
}
