import { isZero } from '../pipeline/digest';
import { giveBack, takeBuffer } from '../pipeline/buffer-pool';
import { runTool } from '../attached-disks/claimed-disk';
import { FileSource } from '../sources/file-source';
import type { BlockTarget } from './block-target';
import { FileTarget } from './file-target';

/** Below it, looking and writing costs less than starting the tool that asks the device. */
const worthAskingBytes = 4 * 1024 * 1024;
const lookBytes = 1024 * 1024;
const zeroPatienceMs = 120_000;

/**
 * One lane's view of a block device. What must be zero is made zero by the device itself where it can do so; else it is looked at, and written only
 * where it is not zero yet: a thin new disk reads zero and is left thin, a preallocated one may hold what somebody else left on the storage.
 */
export class DeviceTarget implements BlockTarget {
  readonly maxWriteBytes: number;

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
    if (this.zeroesItself && lengthBytes >= worthAskingBytes) {
      if (await runTool('blkdiscard', ['--zeroout', '--offset', `${offset}`, '--length', `${lengthBytes}`, this.path], zeroPatienceMs))
        return;
      this.zeroesItself = false;
    }
    const buffer = takeBuffer(lookBytes);
    const end = offset + lengthBytes;
    for (let at = offset; at < end; at += lookBytes) {
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

  async close(): Promise<void> {
    await Promise.all([this.target.close(), this.look.close()]);
  }
}
