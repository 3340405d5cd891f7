import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { defineErrors } from '../errors/define-errors';
import { Secret } from '../log/redact';
import { durableWrite } from '../tls/durable-write';

export const SecretErrors = defineErrors({
  SECRETS_DAMAGED: {
    kind: 'operational',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { file: string; problem: string }) =>
      `Stored passwords cannot be used (${m.file}: ${m.problem}). Put the file back from a copy, or remove it and enter the passwords again.`,
  },
});

const cipher = 'aes-256-gcm';
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/**
 * Encrypts credentials at rest: AES-256-GCM under a random key in a file of its own (mode 0600), so that a copy of the list
 * that holds them gives nothing away. A sealed text is base64url of nonce, tag and ciphertext, bound to a name so that it cannot be moved to another entry.
 */
export class SecretBox {
  private constructor(
    private readonly key: Buffer,
    private readonly keyFile: string,
  ) {}

  /** Makes the key at first use. Throws SECRETS_DAMAGED. */
  static open(keyFile: string): SecretBox {
    let text: string;
    try {
      text = fs.readFileSync(keyFile, 'utf8').trim();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        throw SecretErrors.SECRETS_DAMAGED({ file: keyFile, problem: 'the key cannot be read' }, { cause: error });
      }
      text = randomBytes(keyBytes).toString('base64url');
      durableWrite(keyFile, text, 0o600);
    }
    const key = Buffer.from(text, 'base64url');
    if (key.length !== keyBytes) throw SecretErrors.SECRETS_DAMAGED({ file: keyFile, problem: 'it holds no key' });
    return new SecretBox(key, keyFile);
  }

  seal(secret: Secret, boundTo: string): string {
    const nonce = randomBytes(nonceBytes);
    const sealing = createCipheriv(cipher, this.key, nonce);
    sealing.setAAD(Buffer.from(boundTo));
    const body = Buffer.concat([sealing.update(secret.reveal(), 'utf8'), sealing.final()]);
    return Buffer.concat([nonce, sealing.getAuthTag(), body]).toString('base64url');
  }

  /** Throws SECRETS_DAMAGED when text, name or key do not belong together. */
  open(sealed: string, boundTo: string): Secret {
    const bytes = Buffer.from(sealed, 'base64url');
    try {
      const opening = createDecipheriv(cipher, this.key, bytes.subarray(0, nonceBytes));
      opening.setAAD(Buffer.from(boundTo));
      opening.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
      return new Secret(Buffer.concat([opening.update(bytes.subarray(nonceBytes + tagBytes)), opening.final()]).toString('utf8'));
    } catch (error) {
      throw SecretErrors.SECRETS_DAMAGED({ file: this.keyFile, problem: 'a password cannot be decrypted with it' }, { cause: error });
    }
  }
}
