import type { BlockLocation } from '../../repository/blocks/block-location';

const maxEntries = 4 * 1024 * 1024;
/** Packs are below 80 MiB. */
const offsets = 2 ** 27;

/**
 * Places in packs, exactly: unlike a filter it never claims to have what it has not, since a page that is passed over by mistake would lose what
 * it leads to. Bounded at 64 MiB; what does not fit any more is simply looked at again.
 */
export class PlaceSet {
  /** Place + 1; 0 is empty. */
  private keys = new Float64Array(1024);
  private count = 0;

  has(place: BlockLocation): boolean {
    return this.keys[this.seek(keyOf(place))] !== 0;
  }

  add(place: BlockLocation): void {
    if (this.count >= maxEntries) return;
    const key = keyOf(place);
    const slot = this.seek(key);
    if (this.keys[slot] !== 0) return;
    this.keys[slot] = key;
    if (++this.count > this.keys.length * 0.6) this.grow();
  }

  private seek(key: number): number {
    const mask = this.keys.length - 1;
    const low = Math.imul((key % 0x100000000) | 0, 0x9e3779b1);
    let slot = ((low ^ (low >>> 15)) + Math.imul(Math.floor(key / 0x100000000), 0x85ebca6b)) & mask;
    while (this.keys[slot] !== 0 && this.keys[slot] !== key) slot = (slot + 1) & mask;
    return slot;
  }

  private grow(): void {
    const old = this.keys;
    this.keys = new Float64Array(old.length * 2);
    for (const key of old) if (key !== 0) this.keys[this.seek(key)] = key;
  }
}

function keyOf({ pack, offset }: BlockLocation): number {
  return pack * offsets + offset + 1;
}
