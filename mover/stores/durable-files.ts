/**
 * Files below one folder that become durable in the order of docs/formats/directory.md: written under a temporary name, synced, renamed, and then
 * the folder synced. Errors are the file system's own.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import fs from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { fileErrorCode, onceMoreIfStale, patiently } from './file-errors';
import { makeOne } from './make-folder';
import { SamePlace } from './same-place';

export const TEMPORARY_FOLDER = 'tmp';

/** Called right before each step that leaves something on the disk; tests kill or fail there. */
export type StepObserver = (step: 'open' | 'write' | 'sync' | 'rename' | 'sync-folder' | 'delete', name: string) => void;

/** File systems that cannot sync a folder say so; their servers write names down before they answer. */
const noFolderSync: readonly string[] = ['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'];

export class DurableFiles {
  private readonly knownFolders = new Set<string>();

  constructor(
    readonly folder: string,
    /** Part of each temporary name, so that each writer finds its own. */
    readonly writer: string,
    readonly step: StepObserver,
    private readonly place: SamePlace = new SamePlace(folder, undefined),
  ) {}

  pathOf(name: string): string {
    return path.join(this.folder, name);
  }

  /** A new name in the temporary folder, which is made. */
  async temporaryPath(): Promise<string> {
    await this.ensureFolder(TEMPORARY_FOLDER);
    return this.pathOf(`${TEMPORARY_FOLDER}/${this.writer}.${randomUUID()}`);
  }

  /** A small file with its content, synced, under a temporary name. */
  async writeTemporary(name: string, content: Uint8Array): Promise<string> {
    const temporary = await this.temporaryPath();
    try {
      this.step('open', name);
      const handle = await fs.open(temporary, 'wx', 0o600);
      try {
        this.step('write', name);
        await handle.writeFile(content);
        this.step('sync', name);
        await handle.datasync();
      } finally {
        // NFS may tell of a failed write here; then the file is thrown away like after any other failure.
        await handle.close();
      }
      return temporary;
    } catch (error) {
      await this.discard(temporary);
      throw error;
    }
  }

  /** A new large file under a temporary name, past the page cache where the file system allows that. */
  async openTemporary(name: string): Promise<{ temporary: string; handle: FileHandle }> {
    const temporary = await this.temporaryPath();
    this.step('open', name);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    try {
      return { temporary, handle: await fs.open(temporary, flags | constants.O_DIRECT, 0o600) };
    } catch (error) {
      // tmpfs, FUSE and SMB mounts may know no O_DIRECT.
      if (fileErrorCode(error) !== 'EINVAL') throw error;
      await this.discard(temporary);
      return { temporary, handle: await fs.open(temporary, flags, 0o600) };
    }
  }

  /** Gives a synced temporary file its name, replacing what had it. Durable when it resolves; a failure before the rename leaves no remains. */
  async publish(temporary: string, name: string): Promise<void> {
    try {
      await this.ensureFolder(path.dirname(name));
      this.step('rename', name);
      await patiently(() => fs.rename(temporary, this.pathOf(name)));
    } catch (error) {
      await this.discard(temporary);
      throw error;
    }
    await this.syncFolder(path.dirname(name));
  }

  async remove(name: string): Promise<void> {
    this.step('delete', name);
    await patiently(() => fs.rm(this.pathOf(name), { force: true }));
    await this.syncFolder(path.dirname(name)).catch((error: unknown) => {
      // Where there is no folder there was no file.
      if (fileErrorCode(error) !== 'ENOENT') throw error;
    });
  }

  async readSmall(name: string): Promise<Buffer> {
    return onceMoreIfStale(() => fs.readFile(this.pathOf(name)));
  }

  /** Throws a temporary file away. What cannot be removed now is left to {@link removeLeftovers}. */
  async discard(temporary: string): Promise<void> {
    await fs.rm(temporary, { force: true }).catch(() => undefined);
  }

  /** Makes a folder and its parents durable, once per run, and never where the device below was taken away. */
  async ensureFolder(folder: string): Promise<void> {
    if (folder === '.' || this.knownFolders.has(folder)) return;
    await this.place.check();
    const parent = path.dirname(folder);
    await this.ensureFolder(parent);
    if (await makeOne(this.pathOf(folder))) await this.syncFolder(parent);
    this.knownFolders.add(folder);
  }

  async syncFolder(folder: string): Promise<void> {
    this.step('sync-folder', folder);
    await onceMoreIfStale(async () => {
      const handle = await fs.open(this.pathOf(folder), 'r');
      try {
        await handle.sync();
      } catch (error) {
        if (!noFolderSync.includes(fileErrorCode(error))) throw error;
      } finally {
        await handle.close();
      }
    });
  }

  /** Removes temporary files of a writer. Only for the writer itself before it writes, or for one that is gone. */
  async removeLeftovers(writer: string): Promise<void> {
    for (const name of await this.temporaryNames()) {
      if (name.startsWith(`${writer}.`)) await fs.rm(this.pathOf(`${TEMPORARY_FOLDER}/${name}`), { force: true });
    }
  }

  /** Folders are looked for anew: the file system below was taken away, or is another one. */
  forgetFolders(): void {
    this.knownFolders.clear();
  }

  private async temporaryNames(): Promise<string[]> {
    try {
      return await fs.readdir(this.pathOf(TEMPORARY_FOLDER));
    } catch (error) {
      if (fileErrorCode(error) === 'ENOENT') return [];
      throw error;
    }
  }
}
