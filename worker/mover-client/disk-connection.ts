import { hasCode } from '../../common/errors/tidemark-error';
import type { DiskOpenedFrame, OpenDiskFrame } from '../../proto/data-mover/frame-types';
import { WorkerErrors } from '../errors/worker-errors';
import { MoverConnection } from './mover-connection';
import type { MoverTerms } from './mover-connection';
import type { MoverRoute } from './mover-route';
import { openWithPatience, reopenPatienceMs } from './reopening';

/**
 * A lane's connection with one disk open for writing, which can be opened again after it broke, also at another mover. A mover gives a disk one handle for
 * all lanes, made at random: another handle than before means that the mover was restarted, or is another one, and has only what was
 * durable and written down, so that just going on would leave holes in the point.
 */
export class DiskConnection {
  private constructor(
    private readonly route: MoverRoute,
    private readonly disk: Omit<OpenDiskFrame, 'sequence'>,
    private readonly signal: AbortSignal,
    private live: MoverConnection,
    readonly opened: DiskOpenedFrame,
  ) {}

  /** Throws what MoverConnection.open throws, DISK_MISMATCH, POINT_NOT_FOUND. */
  static async open(
    route: MoverRoute,
    disk: Omit<OpenDiskFrame, 'sequence'>,
    signal: AbortSignal,
    patienceMs: number,
  ): Promise<DiskConnection> {
    const { live, opened } = await dial(route, disk, signal, patienceMs);
    return new DiskConnection(route, disk, signal, live, opened);
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
   * Replaces the connection; resolves when the old socket no longer uses any buffer. Throws MOVER_STATE_LOST when the disk must be
   * begun again with what the mover has of it, and what `open` throws.
   */
  async reopen(): Promise<void> {
    this.live.close();
    await this.live.closed;
    const { live, opened } = await dial(this.route, this.disk, this.signal, reopenPatienceMs);
    this.live = live;
    if (opened.handle !== this.opened.handle || opened.committed !== this.opened.committed) {
      throw WorkerErrors.MOVER_STATE_LOST({ diskId: this.disk.diskId });
    }
  }

  close(): void {
    this.live.close();
  }
}

/** True for the mover's word that it does not know the disk as this lane left it. */
export function isStateLoss(error: unknown): boolean {
  return hasCode(error, 'MOVER_STATE_LOST', 'DISK_NOT_OPEN');
}

async function dial(
  route: MoverRoute,
  disk: Omit<OpenDiskFrame, 'sequence'>,
  signal: AbortSignal,
  patienceMs: number,
): Promise<{ live: MoverConnection; opened: DiskOpenedFrame }> {
  return openWithPatience(
    async (address, usable) => {
      const live = await MoverConnection.open(address, usable);
      live.closeWith(usable);
      try {
        return { live, opened: await live.openDisk(disk) };
      } catch (error) {
        live.close();
        throw error;
      }
    },
    route,
    signal,
    patienceMs,
  );
}
