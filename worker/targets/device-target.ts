import { isZero } from '../pipeline/digest';
import { giveBack, takeBuffer } from '../pipeline/buffer-pool';
import { FileSource } from '../sources/file-source';
import type { BlockTarget } from './block-target';
import { FileTarget } from './file-target';

const lookBytes = 1024 * 1024;

/**
 * One lane's view of a block device. A new thin disk reads zero where nothing was written, and zero ranges are left alone. Another one may hold what
 * somebody else left on the storage: it is looked at, and zeroes are written only where there are none. Devices are not asked to make ranges zero
 * themselves: without discard, which oVirt leaves off, that makes a sparse raw image on file storage a preallocated one.
 */
export class DeviceTarget implements BlockTarget {
  readonly maxWriteBytes: number;

  private constructor(
    private readonly target: FileTarget,
    private readonly look: FileSource,
    private readonly readsZero: boolean,
  ) {
    this.maxWriteBytes = target.maxWriteBytes;
  }

  /** `readsZero`: it is new and thin. Throws TARGET_UNWRITABLE, SOURCE_UNREADABLE. */
  static async open(path: string, readsZero: boolean): Promise<DeviceTarget> {
    const target = await FileTarget.open(path);
    try {
      return new DeviceTarget(target, await FileSource.open(path, 'direct'), readsZero);
    } catch (error) {
      await target.close();
      throw error;
    }
  }

  write(offset: number, bytes: Buffer): Promise<void> {
    return this.target.write(offset, bytes);
  }

  async zero(offset: number, lengthBytes: number): Promise<void> {
    if (this.readsZero) return;
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
