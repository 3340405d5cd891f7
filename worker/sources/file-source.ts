import { open } from 'node:fs/promises';
import fs from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { LocalErrors } from '../errors/worker-errors';
import { InFlight } from '../pipeline/in-flight';
import type { BlockSource } from './block-source';

/**
 * A block device or raw file of this machine. All of it counts as data: Node.js cannot ask for holes without an addon, and reading them costs little
 * more than the zero test that every block gets.
 */
export class FileSource implements BlockSource {
  readonly maxReadBytes = 8 * 1024 * 1024;
  private readonly inFlight = new InFlight();
  private takesDirect = true;

  private constructor(
    private readonly handle: FileHandle,
    private readonly direct: FileHandle | undefined,
    /** One range is read ahead while another is hashed and compressed; two where the kernel does not read ahead. */
    readonly concurrency: number,
  ) {}

  /**
   * `direct` reads past the page cache into page-aligned memory, where the device takes that: the memory of a worker VM is small, and what is read
   * once need not push out what is used. Throws SOURCE_UNREADABLE.
   */
  static async open(path: string, mode: 'cached' | 'direct' = 'cached'): Promise<FileSource> {
    let handle: FileHandle;
    try {
      handle = await open(path, 'r');
    } catch (cause) {
      throw unreadable(cause);
    }
    if (mode === 'cached') return new FileSource(handle, undefined, 1);
    // Not every file system and driver does it.
    const direct = await open(path, fs.constants.O_RDONLY | fs.constants.O_DIRECT).catch(() => undefined);
    return new FileSource(handle, direct, 2);
  }

  /** Size of a regular file or block device. Throws SOURCE_UNREADABLE. */
  static async sizeOf(path: string): Promise<number> {
    const source = await FileSource.open(path);
    try {
      const stat = await source.handle.stat();
      if (stat.isFile()) return stat.size;
      if (!stat.isBlockDevice()) throw LocalErrors.SOURCE_UNREADABLE({ reason: 'it is neither a file nor a block device' });
      return await source.findEnd();
    } finally {
      await source.close();
    }
  }

  read(offset: number, target: Buffer): Promise<void> {
    return this.inFlight.during(() => this.readWhole(offset, target));
  }

  async close(): Promise<void> {
    await this.inFlight.close();
    await Promise.all([this.handle.close(), this.direct?.close()]);
  }

  private readWhole(offset: number, target: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (done: number) => {
        const direct = this.takesDirect ? this.direct : undefined;
        fs.read((direct ?? this.handle).fd, target, done, target.length - done, offset + done, (error, count) => {
          if (error?.code === 'EINVAL' && direct) {
            // Memory, offsets or an end of another alignment than the device's: the cached way always works.
            this.takesDirect = false;
            return step(done);
          }
          if (error) return reject(unreadable(error));
          if (count === 0) return reject(LocalErrors.SOURCE_UNREADABLE({ reason: `it ends at byte ${offset + done}` }));
          if (done + count < target.length) return step(done + count);
          resolve();
        });
      };
      step(0);
    });
  }

  /** A device's stat has no size: the end is where reading one byte stops to succeed. */
  private async findEnd(): Promise<number> {
    const probe = Buffer.alloc(1);
    const readable = async (offset: number) => {
      try {
        return (await this.handle.read(probe, 0, 1, offset)).bytesRead === 1;
      } catch {
        return false; // beyond the end some drivers answer an error in place of nothing
      }
    };
    let high = 1;
    while (high < Number.MAX_SAFE_INTEGER / 2 && (await readable(high - 1))) high *= 2;
    let low = 0;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (await readable(middle)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function unreadable(cause: unknown) {
  return LocalErrors.SOURCE_UNREADABLE({ reason: (cause as NodeJS.ErrnoException).code ?? String(cause) }, { cause });
}
