import fs from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { onceMoreIfStale } from './file-errors';

interface Entry {
  readonly handle: Promise<FileHandle>;
  users: number;
  evicted: boolean;
}

/** Files kept open for reading, the least recently used closed first. Safe only for immutable files. */
export class OpenFiles {
  private readonly entries = new Map<string, Entry>();

  constructor(
    private readonly folder: string,
    private readonly limit = 64,
  ) {}

  /** Bytes read into `target` from `offset`; fewer than its length only at the file's end. A stale handle is opened anew, once. */
  async read(name: string, offset: number, target: Buffer): Promise<number> {
    return onceMoreIfStale(() => this.readOnce(name, offset, target));
  }

  private async readOnce(name: string, offset: number, target: Buffer): Promise<number> {
    const entry = this.acquire(name);
    try {
      const handle = await entry.handle;
      let done = 0;
      while (done < target.length) {
        const { bytesRead } = await handle.read(target, done, target.length - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return done;
    } catch (error) {
      // Whatever went wrong: the next read has a handle of its own.
      if (this.entries.get(name) === entry) await this.evict(name, entry);
      throw error;
    } finally {
      entry.users--;
      if (entry.evicted && entry.users === 0) await closeQuietly(entry);
    }
  }

  /** Closes a file, for instance because it is removed. */
  async forget(name: string): Promise<void> {
    const entry = this.entries.get(name);
    if (entry) await this.evict(name, entry);
  }

  async close(): Promise<void> {
    for (const [name, entry] of [...this.entries]) await this.evict(name, entry);
  }

  private acquire(name: string): Entry {
    let entry = this.entries.get(name);
    if (entry) this.entries.delete(name);
    else {
      const opened: Entry = { handle: fs.open(path.join(this.folder, name), 'r'), users: 0, evicted: false };
      opened.handle.catch(() => {
        if (this.entries.get(name) === opened) this.entries.delete(name);
      });
      entry = opened;
    }
    entry.users++;
    this.entries.set(name, entry);
    if (this.entries.size > this.limit) {
      const oldest = this.entries.entries().next().value;
      if (oldest) void this.evict(oldest[0], oldest[1]);
    }
    return entry;
  }

  private async evict(name: string, entry: Entry): Promise<void> {
    this.entries.delete(name);
    entry.evicted = true;
    if (entry.users === 0) await closeQuietly(entry);
  }
}

async function closeQuietly(entry: Entry): Promise<void> {
  const handle = await entry.handle.catch(() => undefined);
  // A file that was only read has nothing to lose by a failing close.
  await handle?.close().catch(() => undefined);
}
