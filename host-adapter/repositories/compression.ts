export type Compression = 'none' | 'zstd' | 'lz4';

const wireNames = { none: 'COMPRESSION_NONE', zstd: 'COMPRESSION_ZSTD', lz4: 'COMPRESSION_LZ4' } as const;

/** Absent leaves the choice to the mover. */
export function compressionToWire(compression: Compression | undefined): (typeof wireNames)[Compression] | 'COMPRESSION_UNSPECIFIED' {
  return compression === undefined ? 'COMPRESSION_UNSPECIFIED' : wireNames[compression];
}

/** Undefined for one of a newer mover. */
export function compressionFromWire(wire: string | undefined): Compression | undefined {
  return (Object.keys(wireNames) as Compression[]).find((one) => wireNames[one] === wire);
}
