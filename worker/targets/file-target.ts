import fs from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { LocalErrors } from '../errors/worker-errors';
import type { BlockTarget } from './block-target';
import { InFlight } from '../pipeline/in-flight';

/** Offsets, lengths and addresses of direct writes are multiples of it: a page, and at least a sector of any disk. */
const directUnitBytes = 4096;

/**
 * One lane's view of a file that starts as one hole. Writes go past the page cache where the file system allows it: that costs a tenth of the CPU and half
 * the time of filling the cache with data that nobody reads, and leaves little to flush at the end.
 */
export class FileTarget implements BlockTarget {
  readonly maxWriteBytes = 16 * 1024 * 1024;
  private readonly inFlight = new InFlight();
  private takesDirect = true;

  private constructor(
    private readonly buffered: FileHandle,
    private readonly direct: FileHandle | undefined,
  ) {}

  /** Throws TARGET_UNWRITABLE. */
  static async open(path: string): Promise<FileTarget> {
    let buffered: FileHandle;
    try {
      buffered = await open(path, 'r+');
    } catch (cause) {
      throw unwritable(cause);
    }
    try {
      return new FileTarget(buffered, await open(path, fs.constants.O_RDWR | fs.constants.O_DIRECT));
    } catch {
      return new FileTarget(buffered, undefined); // the file system does not do it (tmpfs, some network ones)
    }
  }

  /** `bytes` in page-aligned memory are written directly but for an odd end. */
  write(offset: number, bytes: Buffer): Promise<void> {
    return this.inFlight.during(() => this.writeWhole(offset, bytes));
  }

  async zero(): Promise<void> {
    // A hole already.
  }

  async flush(): Promise<void> {
    try {
      await this.buffered.datasync();
    } catch (cause) {
      throw unwritable(cause);
    }
  }

  async close(): Promise<void> {
    await this.inFlight.close();
    await Promise.all([this.buffered.close(), this.direct?.close()]);
  }

  private async writeWhole(offset: number, bytes: Buffer): Promise<void> {
    const isAligned = offset % directUnitBytes === 0 && bytes.byteOffset % directUnitBytes === 0;
    let done = 0;
    if (this.direct && this.takesDirect && isAligned) done = await this.writeDirect(this.direct, offset, bytes);
    if (done < bytes.length) await writeAll(this.buffered.fd, offset + done, bytes.subarray(done));
  }

  /** Bytes written: all whole units, or none when the file turned out not to take direct writes. */
  private async writeDirect(handle: FileHandle, offset: number, bytes: Buffer): Promise<number> {
    const whole = bytes.length - (bytes.length % directUnitBytes);
    try {
      if (whole > 0) await writeAll(handle.fd, offset, bytes.subarray(0, whole));
      return whole;
    } catch (error) {
      // Memory or sectors of another alignment than a page: the buffered way always works.
      if ((error as { meta?: { reason?: unknown } }).meta?.reason !== 'EINVAL') throw error;
      this.takesDirect = false;
      return 0;
    }
  }
}

function writeAll(descriptor: number, offset: number, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const step = (done: number) => {
      fs.write(descriptor, bytes, done, bytes.length - done, offset + done, (error, count) => {
        if (error) reject(unwritable(error));
        else if (done + count < bytes.length) step(done + count);
        else resolve();
      });
    };
    step(0);
  });
}

function unwritable(cause: unknown) {
  return LocalErrors.TARGET_UNWRITABLE({ reason: (cause as NodeJS.ErrnoException).code ?? String(cause) }, { cause });
}
