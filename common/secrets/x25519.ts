/** X25519 keys as the 32 bytes that RFC 7748 has, for Node.js, which wants them in PKCS #8 and SPKI (RFC 8410). Pure. */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto';

const privatePrefix = Buffer.from('302e020100300506032b656e04220420', 'hex');
const publicPrefix = Buffer.from('302a300506032b656e032100', 'hex');

/** The private key of any 32 bytes. */
export function privateKeyOf(seed: Buffer): KeyObject {
  return createPrivateKey({ key: Buffer.concat([privatePrefix, seed]), format: 'der', type: 'pkcs8' });
}

/** The 32 bytes of a public key, or of the public half of a private one. */
export function publicBytes(key: KeyObject): Buffer {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return publicKey.export({ format: 'der', type: 'spki' }).subarray(publicPrefix.length);
}

/** Undefined when the public key is a point of low order, which somebody wrote there. */
export function sharedSecret(privateKey: KeyObject, publicKey: Buffer): Buffer | undefined {
  try {
    const key = createPublicKey({ key: Buffer.concat([publicPrefix, publicKey]), format: 'der', type: 'spki' });
    return diffieHellman({ privateKey, publicKey: key });
  } catch {
    return undefined;
  }
}
