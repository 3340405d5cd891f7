const maxEntries = 8 * 1024 * 1024;

/**
 * Digests that were found good, by their first 8 bytes (they are uniform: a false hit would need 2^32 times as many). Bounded at 107 MB; what does
 * not fit any more is simply looked at again.
 */
export class DigestSet {
  private keys = new BigUint64Array(4096);
  private count = 0;

  get size(): number {
    return this.count;
  }

  has(digest: Buffer): boolean {
    return this.keys[this.seek(keyOf(digest))] !== 0n;
  }

  add(digest: Buffer): void {
    if (this.count >= maxEntries) return;
    const key = keyOf(digest);
    const slot = this.seek(key);
    if (this.keys[slot] !== 0n) return;
    this.keys[slot] = key;
    if (++this.count > this.keys.length * 0.6) this.grow();
  }

  private seek(key: bigint): number {
    const mask = this.keys.length - 1;
    let slot = Number(key & 0xffffffffn) & mask;
    while (this.keys[slot] !== 0n && this.keys[slot] !== key) slot = (slot + 1) & mask;
    return slot;
  }

  private grow(): void {
    const old = this.keys;
    this.keys = new BigUint64Array(old.length * 2);
    for (const key of old) if (key !== 0n) this.keys[this.seek(key)] = key;
  }
}

function keyOf(digest: Buffer): bigint {
  return digest.readBigUInt64BE(0) || 1n;
}
