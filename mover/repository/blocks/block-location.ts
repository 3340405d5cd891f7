/** Where a block's stored form lies, and how to read it. */
export interface BlockLocation {
  /** Number of the pack in this process; see PackTable. */
  readonly pack: number;
  readonly offset: number;
  readonly storedLength: number;
  readonly rawLength: number;
  readonly codec: number;
  readonly kind: number;
}

/** Says of a place (number of the pack, offset in it) whether it will do. */
export type LocationTest = (pack: number, offset: number) => boolean;

/** Raw length, codec and kind in one number, as index runs keep them. */
export function packTraits(rawLength: number, codec: number, kind: number): number {
  return ((rawLength << 8) | (codec << 4) | kind) >>> 0;
}

export function locationOf(pack: number, offset: number, storedLength: number, traits: number): BlockLocation {
  return { pack, offset, storedLength, rawLength: traits >>> 8, codec: (traits >>> 4) & 15, kind: traits & 15 };
}
