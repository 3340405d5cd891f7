/** Lists of UUIDs in documents: 16 bytes each, one after the other. Pure. */
export const ID_BYTES = 16;

export function encodeIds(ids: readonly string[]): Buffer {
  const bytes = Buffer.alloc(ids.length * ID_BYTES);
  ids.forEach((id, i) => bytes.write(id.replaceAll('-', ''), i * ID_BYTES, 'hex'));
  return bytes;
}

/** Undefined when the bytes are no whole number of ids. */
export function decodeIds(bytes: Buffer): string[] | undefined {
  if (bytes.length % ID_BYTES !== 0) return undefined;
  return Array.from({ length: bytes.length / ID_BYTES }, (_, i) => idAt(bytes, i * ID_BYTES));
}

/** UUID of the 16 bytes at an offset. */
export function idAt(bytes: Buffer, at: number): string {
  const hex = bytes.toString('hex', at, at + ID_BYTES);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
