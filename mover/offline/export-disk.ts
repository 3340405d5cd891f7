import fs from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import { verifiedRawForm } from '../format/block';
import { BufferPool } from '../repository/blocks/buffer-pool';
import { ImageReader, type StoredBlockView } from '../repository/blocks/image-reader';
import type { Repository } from '../repository/repository';

const readBufferBytes = 4 * 1024 * 1024 + 8192;
const blocksPerRead = 64;

export interface ExportOptions {
  readonly pointId: string;
  readonly diskId: string;
  readonly file: string;
  /** Overwrite a file or device that exists. */
  readonly force: boolean;
  /** Leave damaged blocks zero instead of stopping. */
  readonly keepGoing: boolean;
  progress(doneBytes: number, totalBytes: number): void;
}

export interface ExportResult {
  readonly sizeBytes: number;
  readonly writtenBytes: number;
  /** First bytes of blocks that could not be read, with the reason. */
  readonly damaged: readonly { readonly offsetBytes: number; readonly message: string }[];
}

/**
 * Writes a disk of a point as a sparse raw image, every block checked by its digest. Throws POINT_NOT_FOUND, BLOCK_CORRUPT, BLOCK_MISSING,
 * INDEX_PAGE_DAMAGED, REPOSITORY_IO (also of the output); a file that was made is removed then.
 */
export async function exportDisk(repository: Repository, options: ExportOptions): Promise<ExportResult> {
  const image = await ImageReader.open(repository, options.pointId, options.diskId);
  const output = await openOutput(options);
  const damaged: { offsetBytes: number; message: string }[] = [];
  const pool = new BufferPool(readBufferBytes, 2);
  const { blockSizeBytes, digestKey } = repository;
  let writtenBytes = 0;
  const write = async (group: readonly StoredBlockView[], buffer: Buffer) => {
    try {
      for (const { block, digest, codec, rawLength, payload } of group) {
        const raw = await rawOf(() => verifiedRawForm(digestKey, payload, codec, rawLength, digest), repository, digest);
        await output.handle.write(raw, 0, raw.length, block * blockSizeBytes);
        writtenBytes += raw.length;
      }
    } finally {
      pool.release(buffer);
    }
  };
  try {
    if (output.isFile) await output.handle.truncate(image.sizeBytes);
    for (let block = 0; block < image.blocks;) {
      try {
        await image.read(block, blocksPerRead, pool, write);
      } catch (error) {
        if (!options.keepGoing || !isDamage(error)) throw error;
        for (let one = block; one < Math.min(block + blocksPerRead, image.blocks); one++) {
          await image.read(one, 1, pool, write).catch((reason: unknown) => {
            if (!isDamage(reason)) throw reason;
            damaged.push({ offsetBytes: one * blockSizeBytes, message: reason.message });
          });
        }
      }
      block = await nextBlock(image, block + blocksPerRead, options.keepGoing);
      options.progress(Math.min(block * blockSizeBytes, image.sizeBytes), image.sizeBytes);
    }
    await output.handle.sync();
    await output.handle.close();
  } catch (error) {
    await output.handle.close().catch(() => undefined);
    if (output.made) await fs.rm(options.file, { force: true });
    throw isTidemarkError(error) ? error : outputError(options.file, error);
  }
  return { sizeBytes: image.sizeBytes, writtenBytes, damaged };
}

/** Writes a small file that only its owner may read. Throws REPOSITORY_IO, also when it exists and `force` is not given, and REPOSITORY_FULL. */
export async function writeOutput(file: string, content: Buffer, force: boolean): Promise<void> {
  try {
    await fs.writeFile(file, content, { flag: force ? 'w' : 'wx', mode: 0o600 });
  } catch (error) {
    throw outputError(file, error);
  }
}

async function nextBlock(image: ImageReader, from: number, keepGoing: boolean): Promise<number> {
  try {
    return await image.nextAllocated(from);
  } catch (error) {
    if (!keepGoing || !isDamage(error)) throw error;
    // A page on the way is damaged: go on block by block, each will say so.
    return from;
  }
}

/** A block as it was read, or, when that is damaged, another copy of it. */
async function rawOf(read: () => Buffer, repository: Repository, digest: Buffer): Promise<Buffer> {
  try {
    return read();
  } catch (error) {
    if (!isDamage(error)) throw error;
    return (await repository.blocks.readChecked(digest)).raw;
  }
}

function isDamage(error: unknown): error is Error {
  return isTidemarkError(error) && ['BLOCK_CORRUPT', 'BLOCK_MISSING', 'INDEX_PAGE_DAMAGED'].includes(error.code);
}

async function openOutput(options: ExportOptions): Promise<{ handle: FileHandle; isFile: boolean; made: boolean }> {
  try {
    try {
      return { handle: await fs.open(options.file, 'wx', 0o600), isFile: true, made: true };
    } catch (error) {
      if (!options.force || (error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const isFile = (await fs.stat(options.file)).isFile();
    // What is there must not shine through the holes: a file is emptied; on a device holes stay as they are.
    const handle = await fs.open(options.file, isFile ? 'w' : 'r+');
    return { handle, isFile, made: false };
  } catch (error) {
    throw outputError(options.file, error);
  }
}

function outputError(file: string, error: unknown) {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
  if (code === 'ENOSPC') return RepositoryErrors.REPOSITORY_FULL({ what: file }, { cause: error });
  return RepositoryErrors.REPOSITORY_IO(
    { what: file, reason: code === 'EEXIST' ? 'it exists; --force overwrites it' : code },
    { cause: error },
  );
}
