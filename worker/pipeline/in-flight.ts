import { CommonErrors } from '../../common/errors/common-errors';

/**
 * Operations on a file descriptor that have begun. A descriptor must not be closed before they end: its number may be another file's by the time that a
 * queued or half-done operation gets to it.
 */
export class InFlight {
  private count = 0;
  private idle: (() => void)[] = [];
  private closed = false;

  /** Throws what the work throws, CANCELLED after `close`. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    if (this.closed) throw CommonErrors.CANCELLED({ what: 'the transfer' });
    this.count += 1;
    try {
      return await work();
    } finally {
      this.count -= 1;
      if (this.count === 0) for (const resolve of this.idle.splice(0)) resolve();
    }
  }

  /** Nothing begins any more; resolves when nothing is under way. */
  async close(): Promise<void> {
    this.closed = true;
    if (this.count > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
  }
}
