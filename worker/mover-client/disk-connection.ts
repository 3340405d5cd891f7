import { hasCode } from '../../common/errors/tidemark-error';
import type { DiskOpenedFrame, OpenDiskFrame } from '../../proto/data-mover/frame-types';
import { WorkerErrors } from '../errors/worker-errors';
import { MoverConnection } from './mover-connection';
import type { MoverAddress, MoverTerms } from './mover-connection';
import { openWithPatience } from './reopening';

/**
 * A lane's connection with one disk open for writing, which can be opened again after it broke. The mover gives a disk one handle for all lanes, made
 * at random when it starts the disk: another handle than before means that the mover was restarted and lost what was mapped, so that
 * going on would leave holes in the point.
 */
export class DiskConnection {
  private constructor(
    private readonly address: MoverAddress,
    private readonly disk: Omit<OpenDiskFrame, 'sequence'>,
    private readonly signal: AbortSignal,
    private live: MoverConnection,
    readonly opened: DiskOpenedFrame,
  ) {}

  /** Throws what MoverConnection.open throws, DISK_MISMATCH, POINT_NOT_FOUND. */
  static async open(address: MoverAddress, disk: Omit<OpenDiskFrame, 'sequence'>, signal: AbortSignal): Promise<DiskConnection> {
    const { live, opened } = await dial(address, disk, signal);
    return new DiskConnection(address, disk, signal, live, opened);
  }

  get connection(): MoverConnection {
    return this.live;
  }

  get terms(): MoverTerms {
    return this.live.terms;
  }

  get handle(): number {
    return this.opened.handle;
  }

  /**
   * Replaces the connection; resolves when the old socket no longer uses any buffer. Throws MOVER_STATE_LOST when the disk must be sent
   * again from its start, and what `open` throws.
   */
  async reopen(): Promise<void> {
    this.live.close();
    await this.live.closed;
    const { live, opened } = await dial(this.address, this.disk, this.signal);
    this.live = live;
    if (opened.handle !== this.opened.handle || opened.committed !== this.opened.committed) {
      throw WorkerErrors.MOVER_STATE_LOST({ diskId: this.disk.diskId });
    }
  }

  close(): void {
    this.live.close();
  }
}

/** True for the mover's word that it forgot the disk. */
export function isStateLoss(error: unknown): boolean {
  return hasCode(error, 'MOVER_STATE_LOST', 'DISK_NOT_OPEN');
}

async function dial(
  address: MoverAddress,
  disk: Omit<OpenDiskFrame, 'sequence'>,
  signal: AbortSignal,
): Promise<{ live: MoverConnection; opened: DiskOpenedFrame }> {
  return openWithPatience(async () => {
    const live = await MoverConnection.open(address, signal);
    const abort = () => live.close();
    signal.addEventListener('abort', abort, { once: true });
    void live.closed.then(() => signal.removeEventListener('abort', abort));
    try {
      return { live, opened: await live.openDisk(disk) };
    } catch (error) {
      live.close();
      throw error;
    }
  }, signal);
}
