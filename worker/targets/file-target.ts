import fs from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { setImmediate as breathe } from 'node:timers/promises';
import { CommonErrors } from '../../common/errors/common-errors';
import { LocalErrors } from '../errors/worker-errors';
import type { BlockTarget } from './block-target';

/**
 * One lane's view of a file that starts as one hole. Lanes take turns through a shared word: two threads in one file's write path spin on
 * its lock in the kernel. The file is not flushed: like any export it may be repeated after a power cut.
 */
export class FileTarget implements BlockTarget {
  readonly maxWriteBytes = 16 * 1024 * 1024;
  private readonly turn: Int32Array;

  private constructor(
    private readonly handle: FileHandle,
    turn: SharedArrayBuffer,
    private readonly signal: AbortSignal,
  ) {
    this.turn = new Int32Array(turn);
  }

  /** Throws TARGET_UNWRITABLE. */
  static async open(path: string, turn: SharedArrayBuffer, signal: AbortSignal): Promise<FileTarget> {
    try {
      return new FileTarget(await open(path, 'r+'), turn, signal);
    } catch (cause) {
      throw unwritable(cause);
    }
  }

  async write(offset: number, bytes: Buffer): Promise<void> {
    while (Atomics.compareExchange(this.turn, 0, 0, 1) !== 0) {
      // A write takes a few milliseconds, so sleeping in place is cheapest; a longer wait lets messages through now and then.
      if (Atomics.wait(this.turn, 0, 1, 500) === 'timed-out') await breathe();
      if (this.signal.aborted) throw CommonErrors.CANCELLED({ what: 'the restore' });
    }
    try {
      // In this thread on purpose: the page cache takes it at memory speed, and a hop to a pool costs more.
      for (let done = 0; done < bytes.length;) done += fs.writeSync(this.handle.fd, bytes, done, bytes.length - done, offset + done);
    } catch (cause) {
      throw unwritable(cause);
    } finally {
      Atomics.store(this.turn, 0, 0);
      Atomics.notify(this.turn, 0, 1);
    }
  }

  async zero(): Promise<void> {
    // A hole already.
  }

  async flush(): Promise<void> {
    // See the class comment.
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

function unwritable(cause: unknown) {
  return LocalErrors.TARGET_UNWRITABLE({ reason: (cause as NodeJS.ErrnoException).code ?? String(cause) }, { cause });
}
