import { CommonErrors } from '../../common/errors/common-errors';
import { isZero } from '../pipeline/digest';
import { giveBack, takeBuffer } from '../pipeline/buffer-pool';
import { runTool } from '../attached-disks/run-tool';
import { FileSource } from '../sources/file-source';
import type { BlockTarget } from './block-target';
import { FileTarget } from './file-target';
import { InFlight } from '../pipeline/in-flight';

/** Below it, looking and writing costs less than starting the tool that asks the device. */
const worthAskingBytes = 4 * 1024 * 1024;
const lookBytes = 1024 * 1024;
const zeroPatienceMs = 60_000;
/** Zeroing is not instant on every storage, and cannot be stopped in the middle by every kernel. */
const maxZeroBytes = 1024 * 1024 * 1024;

/**
 * One lane's view of a block device. What must be zero is made zero by the device itself where it can do so; else it is looked at, and written only
 * where it is not zero yet: a thin new disk reads zero and is left thin, a preallocated one may hold what somebody else left on the storage.
 */
export class DeviceTarget implements BlockTarget {
  readonly maxWriteBytes: number;
  private readonly closing = new AbortController();
  private readonly inFlight = new InFlight();

  private constructor(
    private readonly path: string,
    private readonly target: FileTarget,
    private readonly look: FileSource,
    private zeroesItself: boolean,
  ) {
    this.maxWriteBytes = target.maxWriteBytes;
  }

  /** Throws TARGET_UNWRITABLE, SOURCE_UNREADABLE. */
  static async open(path: string, zeroesItself: boolean): Promise<DeviceTarget> {
    const target = await FileTarget.open(path);
    try {
      return new DeviceTarget(path, target, await FileSource.open(path, 'direct'), zeroesItself);
    } catch (error) {
      await target.close();
      throw error;
    }
  }

  write(offset: number, bytes: Buffer): Promise<void> {
    return this.target.write(offset, bytes);
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    const end = offset + lengthBytes;
    let at = offset;
    while (end - at >= worthAskingBytes && (await this.inFlight.during(() => this.askToZero(at, Math.min(maxZeroBytes, end - at))))) {
      at += Math.min(maxZeroBytes, end - at);
    }
    const buffer = takeBuffer(lookBytes);
    for (; at < end; at += lookBytes) {
      const part = buffer.subarray(0, Math.min(lookBytes, end - at));
      await this.look.read(at, part);
      if (isZero(part)) continue;
      part.fill(0);
      await this.target.write(at, part);
    }
    giveBack([buffer]);
  }

  flush(): Promise<void> {
    return this.target.flush();
  }

  /** Also ends a device's zeroing, which holds the device as much as we do. */
  async close(): Promise<void> {
    this.closing.abort();
    await this.inFlight.close();
    await Promise.all([this.target.close(), this.look.close()]);
  }

  /**
   * A hole in a block device reads zero, and is given back to the storage where that can take it (Linux: blkdev_fallocate, which fails rather than
   * write zeroes itself). False when the device cannot do it after all; it is not asked again.
   */
  private async askToZero(offset: number, lengthBytes: number): Promise<boolean> {
    if (!this.zeroesItself) return false;
    const range = ['--offset', String(offset), '--length', String(lengthBytes)];
    const done = await runTool('fallocate', ['--punch-hole', ...range, this.path], zeroPatienceMs, this.closing.signal);
    if (this.closing.signal.aborted) throw CommonErrors.CANCELLED({ what: 'the transfer' });
    this.zeroesItself = done;
    return done;
  }
}
