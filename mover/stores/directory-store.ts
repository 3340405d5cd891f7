/**
 * Objects as files under one folder, with the order of writes and syncs of docs/formats/directory.md. Works on local file systems and on mounts of
 * NFS and SMB shares that honour fsync.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { hasCode } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import { DurableFiles, TEMPORARY_FOLDER, type StepObserver } from './durable-files';
import { ExclusiveFiles } from './exclusive-files';
import { fileErrorCode, onceMoreIfStale, translateFileError } from './file-errors';
import { OpenFiles } from './open-files';
import { SamePlace } from './same-place';
import type { ObjectWriter, Store } from './store';

export type { StepObserver } from './durable-files';

const directAlignmentBytes = 4096;
/** What NFS clients and FUSE make of a file that is removed while somebody has it open. */
const removedButOpen = /^\.(nfs|fuse_hidden)[0-9a-f]+$/;

export interface DirectoryStoreOptions {
  /** Instance id of the mover that writes here; part of temporary names. Absent: one of this store alone, whose leftovers nobody removes. */
  readonly writer?: string;
  /** As an administrator would write it; absent: `directory:` and the folder. */
  readonly location?: string;
  /** Name of an object that every store at the right place has; tells a disk that was mounted again from the empty folder of its mount point. */
  readonly landmark?: string;
  readonly step?: StepObserver;
  /** Called when the store is closed, for instance to unmount what is below. */
  readonly onClose?: () => Promise<void>;
}

export class DirectoryStore implements Store {
  readonly location: string;
  private readonly readers: OpenFiles;
  private readonly files: DurableFiles;
  private readonly exclusive: ExclusiveFiles;

  constructor(
    readonly folder: string,
    private readonly options: DirectoryStoreOptions = {},
  ) {
    this.location = options.location ?? `directory:${folder}`;
    this.readers = new OpenFiles(folder);
    const place = new SamePlace(folder, options.landmark);
    this.files = new DurableFiles(folder, options.writer ?? randomUUID(), options.step ?? (() => undefined), place);
    this.exclusive = new ExclusiveFiles(this.files);
  }

  async put(name: string, content: Uint8Array): Promise<void> {
    await this.guardWrite(name, async () => this.files.publish(await this.files.writeTemporary(name, content), name));
  }

  putNew(name: string, content: Uint8Array): Promise<boolean> {
    return this.guardWrite(name, () => this.exclusive.create(name, content));
  }

  swap(name: string, expected: Buffer, content: Uint8Array | undefined): Promise<boolean> {
    return this.guardWrite(name, () => this.exclusive.swap(name, expected, content));
  }

  create(name: string): Promise<ObjectWriter> {
    return this.guardWrite(name, async () => {
      const { temporary, handle } = await this.files.openTemporary(name);
      return this.writer(name, temporary, handle);
    });
  }

  async read(name: string, offset: number, target: Buffer): Promise<number> {
    return this.guard(name, () => this.readers.read(name, offset, target));
  }

  async readWhole(name: string, maxBytes: number): Promise<Buffer> {
    return this.guard(name, () =>
      onceMoreIfStale(async () => {
        const handle = await fs.open(this.files.pathOf(name), 'r');
        try {
          const { size } = await handle.stat();
          if (size > maxBytes)
            throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: `it has ${size} bytes, more than ${maxBytes}` });
          return await handle.readFile();
        } finally {
          await handle.close();
        }
      }),
    );
  }

  async sizeOf(name: string): Promise<number> {
    return this.guard(name, async () => (await onceMoreIfStale(() => fs.stat(this.files.pathOf(name)))).size);
  }

  async *list(prefix: string): AsyncGenerator<string> {
    const folder = prefix.replace(/\/$/, '');
    let entries;
    try {
      entries = await onceMoreIfStale(() => fs.opendir(this.files.pathOf(folder), { bufferSize: 512 }));
    } catch (error) {
      if (fileErrorCode(error) === 'ENOENT') return;
      throw translateFileError(error, prefix);
    }
    for await (const entry of guarded(entries, prefix)) {
      if (entry.isDirectory()) yield* this.list(`${folder}/${entry.name}/`);
      else if (!removedButOpen.test(entry.name)) yield `${folder}/${entry.name}`;
    }
  }

  async delete(name: string): Promise<void> {
    await this.guard(name, async () => {
      await this.readers.forget(name);
      await this.files.remove(name);
    });
  }

  async freeBytes(): Promise<number | undefined> {
    return this.guard('free space', async () => {
      const found = await fs.statfs(this.folder);
      return found.bavail * found.bsize;
    });
  }

  async totalBytes(): Promise<number | undefined> {
    return this.guard('size', async () => {
      const found = await fs.statfs(this.folder);
      return found.blocks * found.bsize;
    });
  }

  async removeLeftovers(writer: string): Promise<void> {
    await this.guard(TEMPORARY_FOLDER, () => this.files.removeLeftovers(writer));
  }

  async close(): Promise<void> {
    await this.readers.close();
    await this.options.onClose?.();
  }

  private writer(name: string, temporary: string, handle: FileHandle): ObjectWriter {
    let position = 0;
    let closed = false;
    const close = async () => {
      if (closed) return;
      closed = true;
      await handle.close();
    };
    const writeFully = async (buffer: Buffer, length: number) => {
      for (let done = 0; done < length;) {
        this.files.step('write', name);
        const { bytesWritten } = await handle.write(buffer, done, length - done, position + done);
        // Writing nothing without an error would loop for ever; a full device says ENOSPC on the next call, but not surely.
        if (bytesWritten === 0) throw RepositoryErrors.REPOSITORY_FULL({ what: name });
        done += bytesWritten;
      }
    };
    return {
      append: (piece) =>
        this.guardWrite(name, async () => {
          await writeFully(piece, piece.length);
          position += piece.length;
        }),
      finish: (piece, length) =>
        this.guardWrite(name, async () => {
          const padded = Math.ceil(length / directAlignmentBytes) * directAlignmentBytes;
          piece.fill(0, length, padded);
          await writeFully(piece, padded);
          if (padded !== length) await handle.truncate(position + length);
          this.files.step('sync', name);
          await handle.sync();
          await close();
          await this.files.publish(temporary, name);
        }),
      abandon: async () => {
        await close().catch(() => undefined);
        await this.files.discard(temporary);
      },
    };
  }

  /** A missing folder under a write is no missing object: the file system was taken away. */
  private async guardWrite<T>(name: string, work: () => Promise<T>): Promise<T> {
    try {
      return await this.guard(name, work);
    } catch (error) {
      if (!hasCode(error, 'OBJECT_NOT_FOUND')) throw error;
      this.files.forgetFolders();
      throw RepositoryErrors.REPOSITORY_IO({ what: name, reason: 'ENOENT' }, { cause: error });
    }
  }

  private async guard<T>(name: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw translateFileError(error, name);
    }
  }
}

/** A folder that fails while it is read fails as the device does. */
async function* guarded<T>(entries: AsyncIterable<T>, name: string): AsyncGenerator<T> {
  try {
    yield* entries;
  } catch (error) {
    throw translateFileError(error, name);
  }
}
