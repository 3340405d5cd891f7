/**
 * Objects as files under one folder, with the order of writes and syncs of docs/formats/README.md. Works on local file systems and on NFS
 * and SMB mounts that honour fsync.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import fs from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import { makeOne } from './make-folder';
import { OpenFiles } from './open-files';
import type { ObjectWriter, Store } from './store';

const directAlignmentBytes = 4096;
const temporaryFolder = 'tmp';

/** Called right before each step that leaves something on the disk; tests kill or fail there. */
export type StepObserver = (step: 'open' | 'write' | 'sync' | 'rename' | 'sync-folder' | 'delete', name: string) => void;

export class DirectoryStore implements Store {
  readonly location: string;
  private readonly files: OpenFiles;
  private readonly knownFolders = new Set<string>();

  constructor(
    readonly folder: string,
    private readonly step: StepObserver = () => undefined,
  ) {
    this.location = `directory:${folder}`;
    this.files = new OpenFiles(folder);
  }

  async put(name: string, content: Uint8Array): Promise<void> {
    await this.guardWrite(name, async () => {
      const temporary = await this.writeTemporary(name, content);
      await this.publish(temporary, name);
    });
  }

  async putNew(name: string, content: Uint8Array): Promise<boolean> {
    return this.guardWrite(name, async () => {
      const temporary = await this.writeTemporary(name, content);
      try {
        await this.ensureFolder(path.dirname(name));
        this.step('rename', name);
        // A link fails when the name is taken, a rename would not.
        await fs.link(temporary, this.pathOf(name));
        await this.syncFolder(path.dirname(name));
        return true;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
        throw error;
      } finally {
        await fs.rm(temporary, { force: true });
      }
    });
  }

  async swap(name: string, expected: Buffer, content: Uint8Array | undefined): Promise<boolean> {
    const taken = await this.take(name);
    if (taken === undefined) return false;
    if (taken.equals(expected)) return content === undefined || (await this.putNew(name, content));
    // Somebody else's by now: it goes back, unless there is a newer one already.
    await this.putNew(name, taken);
    return false;
  }

  async create(name: string): Promise<ObjectWriter> {
    return this.guardWrite(name, async () => {
      const temporary = await this.temporaryPath();
      this.step('open', name);
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
      let handle: FileHandle;
      try {
        handle = await fs.open(temporary, flags | constants.O_DIRECT, 0o600);
      } catch (error) {
        // tmpfs and some network file systems know no O_DIRECT.
        if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
        await fs.rm(temporary, { force: true });
        handle = await fs.open(temporary, flags, 0o600);
      }
      return this.writer(name, temporary, handle);
    });
  }

  async read(name: string, offset: number, target: Buffer): Promise<number> {
    return this.guard(name, () => this.files.read(name, offset, target));
  }

  async readWhole(name: string, maxBytes: number): Promise<Buffer> {
    return this.guard(name, async () => {
      const handle = await fs.open(this.pathOf(name), 'r');
      try {
        const { size } = await handle.stat();
        if (size > maxBytes)
          throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: `it has ${size} bytes, more than ${maxBytes}` });
        return await handle.readFile();
      } finally {
        await handle.close();
      }
    });
  }

  async sizeOf(name: string): Promise<number> {
    return this.guard(name, async () => (await fs.stat(this.pathOf(name))).size);
  }

  async *list(prefix: string): AsyncGenerator<string> {
    const folder = prefix.replace(/\/$/, '');
    let entries;
    try {
      entries = await fs.opendir(this.pathOf(folder), { bufferSize: 512 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw translate(error, prefix);
    }
    for await (const entry of entries) {
      if (entry.isDirectory()) yield* this.list(`${folder}/${entry.name}/`);
      else yield `${folder}/${entry.name}`;
    }
  }

  async delete(name: string): Promise<void> {
    await this.guard(name, async () => {
      await this.files.forget(name);
      this.step('delete', name);
      await fs.rm(this.pathOf(name), { force: true });
      await this.syncFolder(path.dirname(name));
    });
  }

  async freeBytes(): Promise<number | undefined> {
    return this.guard('free space', async () => {
      const found = await fs.statfs(this.folder);
      return found.bavail * found.bsize;
    });
  }

  async removeLeftovers(): Promise<void> {
    await this.guard(temporaryFolder, () => fs.rm(this.pathOf(temporaryFolder), { recursive: true, force: true }));
    this.knownFolders.delete(temporaryFolder);
  }

  async close(): Promise<void> {
    await this.files.close();
  }

  /** Removes an object and returns what it held; of several who try at once, one gets it. */
  private async take(name: string): Promise<Buffer | undefined> {
    return this.guard(name, async () => {
      const temporary = await this.temporaryPath();
      this.step('rename', name);
      try {
        await fs.rename(this.pathOf(name), temporary);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
      await this.syncFolder(path.dirname(name));
      const content = await fs.readFile(temporary);
      await fs.rm(temporary, { force: true });
      return content;
    });
  }

  private pathOf(name: string): string {
    return path.join(this.folder, name);
  }

  private async temporaryPath(): Promise<string> {
    await this.ensureFolder(temporaryFolder);
    return this.pathOf(`${temporaryFolder}/${randomUUID()}`);
  }

  private async writeTemporary(name: string, content: Uint8Array): Promise<string> {
    const temporary = await this.temporaryPath();
    this.step('open', name);
    const handle = await fs.open(temporary, 'wx', 0o600);
    try {
      this.step('write', name);
      await handle.writeFile(content);
      this.step('sync', name);
      await handle.datasync();
    } catch (error) {
      await fs.rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    } finally {
      await handle.close();
    }
    return temporary;
  }

  private async publish(temporary: string, name: string): Promise<void> {
    try {
      await this.ensureFolder(path.dirname(name));
      this.step('rename', name);
      await fs.rename(temporary, this.pathOf(name));
    } catch (error) {
      await fs.rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
    await this.syncFolder(path.dirname(name));
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
        this.step('write', name);
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
          this.step('sync', name);
          await handle.sync();
          await close();
          await this.publish(temporary, name);
        }),
      abandon: async () => {
        await close().catch(() => undefined);
        await fs.rm(temporary, { force: true }).catch(() => undefined);
      },
    };
  }

  /** Makes a folder and its parents durable, once per run. */
  private async ensureFolder(folder: string): Promise<void> {
    if (folder === '.' || this.knownFolders.has(folder)) return;
    const parent = path.dirname(folder);
    await this.ensureFolder(parent);
    if (await makeOne(this.pathOf(folder))) await this.syncFolder(parent);
    this.knownFolders.add(folder);
  }

  private async syncFolder(folder: string): Promise<void> {
    this.step('sync-folder', folder);
    const handle = await fs.open(this.pathOf(folder), 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  /** A missing folder under a write is no missing object: the file system was taken away. */
  private async guardWrite<T>(name: string, work: () => Promise<T>): Promise<T> {
    try {
      return await this.guard(name, work);
    } catch (error) {
      if (!hasCode(error, 'OBJECT_NOT_FOUND')) throw error;
      this.knownFolders.clear();
      throw RepositoryErrors.REPOSITORY_IO({ what: name, reason: 'ENOENT' }, { cause: error });
    }
  }

  private async guard<T>(name: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw translate(error, name);
    }
  }
}

function translate(error: unknown, name: string): unknown {
  if (isTidemarkError(error)) return error;
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
  if (code === 'ENOENT') return RepositoryErrors.OBJECT_NOT_FOUND({ object: name }, { cause: error });
  if (code === 'ENOSPC' || code === 'EDQUOT') return RepositoryErrors.REPOSITORY_FULL({ what: name }, { cause: error });
  return RepositoryErrors.REPOSITORY_IO({ what: name, reason: code }, { cause: error });
}
