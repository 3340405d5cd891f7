import type { FileHandle } from 'node:fs/promises';
import { HostError } from './driver';

/**
 * Sets the in-use flag of one bitmap in a qcow2 file, which is what a qemu that was killed leaves behind. Layout: qemu's
 * docs/interop/qcow2.txt, "Bitmaps extension" and "Bitmap directory". No qemu may have the file open.
 */
const qcow2Magic = 0x514649fb;
const bitmapsExtension = 0x23852875;
const inUseFlag = 1;

/** False when there is no bitmap of that name. */
export async function markBitmapInUse(file: FileHandle, name: string): Promise<boolean> {
  const header = Buffer.alloc(65_536);
  const { bytesRead } = await file.read(header, 0, header.length, 0);
  if (bytesRead < 104 || header.readUInt32BE(0) !== qcow2Magic || header.readUInt32BE(4) < 3)
    throw new HostError('QEMU_REFUSED', 'Not a qcow2 file of version 3.');
  const directory = findBitmapDirectory(header.subarray(0, bytesRead));
  if (directory === undefined) return false;

  const entries = Buffer.alloc(directory.lengthBytes);
  await file.read(entries, 0, entries.length, directory.offsetBytes);
  for (let offset = 0; offset + 24 <= entries.length;) {
    const nameLength = entries.readUInt16BE(offset + 18);
    const extraLength = entries.readUInt32BE(offset + 20);
    const nameStart = offset + 24 + extraLength;
    if (entries.toString('utf8', nameStart, nameStart + nameLength) === name) {
      const flags = Buffer.alloc(4);
      flags.writeUInt32BE(entries.readUInt32BE(offset + 12) | inUseFlag);
      await file.write(flags, 0, 4, directory.offsetBytes + offset + 12);
      return true;
    }
    offset = nameStart + nameLength;
    offset += (8 - (offset % 8)) % 8;
  }
  return false;
}

function findBitmapDirectory(header: Buffer): { offsetBytes: number; lengthBytes: number } | undefined {
  for (let offset = header.readUInt32BE(100); offset + 8 <= header.length;) {
    const type = header.readUInt32BE(offset);
    const length = header.readUInt32BE(offset + 4);
    if (type === 0) return undefined;
    if (type === bitmapsExtension)
      return { lengthBytes: Number(header.readBigUInt64BE(offset + 16)), offsetBytes: Number(header.readBigUInt64BE(offset + 24)) };
    offset += 8 + length + ((8 - (length % 8)) % 8);
  }
  return undefined;
}
