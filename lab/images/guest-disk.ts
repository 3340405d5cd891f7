import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { seededBytes } from '../hosts/seeded-bytes';

const run = promisify(execFile);

/**
 * An ext4 file system for the `linux` guest, over the whole disk without partitions: seeded files of 4 KiB to 1 MiB below /data with
 * their SHA256SUMS, and an empty /written for the guest to write to. Same seed and size, same files.
 */
export async function formatGuestDisk(options: {
  /** The existing volume file. */
  readonly file: string;
  readonly format: 'raw' | 'cow';
  readonly sizeBytes: number;
  readonly seed: number;
  readonly filesBytes: number;
  /** A path that is free and may be used while this runs. */
  readonly scratch: string;
}): Promise<void> {
  const tree = `${options.scratch}.tree`;
  const rawFile = options.format === 'raw' ? options.file : `${options.scratch}.raw`;
  try {
    await writeTree(tree, options.seed, options.filesBytes);
    // A missing raw file is made by mke2fs itself, sparse.
    const size = `${Math.trunc(options.sizeBytes / 1024)}k`;
    await run('mke2fs', [
      '-q',
      '-F',
      '-t',
      'ext4',
      '-L',
      'lab-guest',
      '-m',
      '0',
      '-E',
      'lazy_itable_init=1,nodiscard',
      '-d',
      tree,
      rawFile,
      size,
    ]);
    if (options.format === 'cow') await run('qemu-img', ['convert', '-q', '-n', '-f', 'raw', '-O', 'qcow2', rawFile, options.file]);
  } finally {
    await rm(tree, { recursive: true, force: true });
    if (options.format === 'cow') await rm(rawFile, { force: true });
  }
}

async function writeTree(tree: string, seed: number, filesBytes: number): Promise<void> {
  await rm(tree, { recursive: true, force: true });
  await mkdir(join(tree, 'written'), { recursive: true });
  await mkdir(join(tree, 'data'), { recursive: true });
  const sums: string[] = [];
  let writtenBytes = 0;
  for (let index = 0; writtenBytes < filesBytes; index++) {
    // Sizes spread evenly over the powers of two, from the same stream as the content.
    const draw = seededBytes(seed, index * 16, 2);
    const wantedBytes = 4096 * 2 ** (draw[0]! % 9) - (draw[1]! % 64) * 8;
    const content = seededBytes(seed + 1, writtenBytes, Math.min(wantedBytes, filesBytes - writtenBytes));
    const name = `file-${String(index).padStart(5, '0')}.bin`;
    await writeFile(join(tree, 'data', name), content);
    sums.push(`${createHash('sha256').update(content).digest('hex')}  ${name}\n`);
    writtenBytes += content.length;
  }
  await writeFile(join(tree, 'data', 'SHA256SUMS'), sums.join(''));
}
