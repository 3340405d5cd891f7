import { CommonErrors } from '../../common/errors/common-errors';
import type { IdentityMaterial } from '../../common/tls/identity';
import type { MoverAddress } from '../mover-client/dial-mover';
import { MoverRoute } from '../mover-client/mover-route';
import { BlockPlan } from '../extents/block-plan';
import { WorkCursor } from '../extents/work-cursor';
import { openSource } from '../sources/open-source';
import type { BlockSource } from '../sources/block-source';
import { openTarget } from '../targets/open-target';
import type { BlockTarget } from '../targets/block-target';
import { BackupLane } from './backup-lane';
import { PlanFeed } from './block-feed';
import { SharedCounters } from './counters';
import type {
  ConcludedBackup,
  LaneStep,
  OpenBackup,
  OpenRestore,
  OpenedBackup,
  OpenedRestore,
  RunBackup,
  RunRestore,
} from './lane-messages';
import { RateLimit } from '../../common/flow/rate-limit';
import { RestoreLane } from './restore-lane';

/** The worker's certificate and trust as of now; a thread's lanes share it. Undefined: as their tasks brought it. */
export interface OwnIdentity {
  material: IdentityMaterial | undefined;
}

/** One lane inside its thread, step by step: opened, run, concluded, closed. */
export class LaneRunner {
  private readonly aborter = new AbortController();
  private readonly route = new MoverRoute();
  private backup: BackupLane | undefined;
  private restore: RestoreLane | undefined;
  private plan: BlockPlan | undefined;
  private source: BlockSource | undefined;
  private target: BlockTarget | undefined;

  constructor(private readonly own: OwnIdentity) {}

  /** Throws what the step throws, or CANCELLED once the lane is closed. */
  async step(message: LaneStep): Promise<OpenedBackup | OpenedRestore | ConcludedBackup | number | undefined> {
    try {
      switch (message.step) {
        case 'open':
          return await (message.open.kind === 'backup' ? this.openBackup(message.open) : this.openRestore(message.open));
        case 'subtract':
          return await this.opened.subtractMapped(new BlockPlan(message.subtract.plan));
        case 'run':
          return await (message.run.kind === 'backup' ? this.runBackup(message.run) : this.runRestore(message.run));
        case 'conclude':
          return await this.conclude();
        case 'close':
          return await this.close();
      }
    } catch (error) {
      if (this.aborter.signal.aborted) throw CommonErrors.CANCELLED({ what: 'the transfer' }, { cause: error });
      throw error;
    }
  }

  /** The mover is another one from now on: connections to the one before are closed, and opened there. */
  changeAddress(address: MoverAddress): void {
    this.route.change(this.address(address));
  }

  async close(): Promise<undefined> {
    this.aborter.abort();
    this.backup?.close();
    this.restore?.close();
    const { source, target } = this;
    this.source = undefined;
    this.target = undefined;
    await Promise.all([source?.close(), target?.close()]);
    return undefined;
  }

  private async openBackup(open: OpenBackup): Promise<OpenedBackup> {
    this.changeAddress(open.address);
    this.backup = await BackupLane.open({
      route: this.route,
      patienceMs: open.patienceMs,
      disk: open.disk,
      counters: new SharedCounters(open.counters),
      rate: new RateLimit(open.rateBytesPerSecond),
      signal: this.aborter.signal,
    });
    const { blockSizeBytes, handle, isCommitted, hasMapped } = this.backup;
    return { blockSizeBytes, handle, committed: isCommitted, hasMapped };
  }

  private async openRestore(open: OpenRestore): Promise<OpenedRestore> {
    this.changeAddress(open.address);
    this.restore = await RestoreLane.open({
      route: this.route,
      patienceMs: open.patienceMs,
      pointId: open.pointId,
      diskId: open.diskId,
      counters: new SharedCounters(open.counters),
      rate: new RateLimit(open.rateBytesPerSecond),
      signal: this.aborter.signal,
    });
    const { sizeBytes, allocatedBlocks } = this.restore.image;
    return { blockSizeBytes: this.restore.blockSizeBytes, sizeBytes, allocatedBlocks };
  }

  private get opened(): BackupLane {
    if (!this.backup) throw CommonErrors.INTERNAL({ what: 'a lane that was not opened' });
    return this.backup;
  }

  private async runBackup(run: RunBackup): Promise<undefined> {
    const backup = this.opened;
    this.plan = new BlockPlan(run.plan);
    const source = await openSource(run.source, this.aborter.signal);
    this.source = source;
    await this.assertNotClosed(source);
    await backup.run(this.plan, new PlanFeed(this.plan, new WorkCursor(run.cursor, this.plan.blockCount)), source);
    return undefined;
  }

  private async runRestore(run: RunRestore): Promise<undefined> {
    if (!this.restore) throw CommonErrors.INTERNAL({ what: 'a lane that was not opened' });
    const target = await openTarget(run.target, this.aborter.signal);
    this.target = target;
    await this.assertNotClosed(target);
    await this.restore.run(new WorkCursor(run.cursor, run.blockCount), target);
    return undefined;
  }

  /** A lane that loses its connection dials again, perhaps hours later: with the certificate of then. */
  private address(address: MoverAddress): MoverAddress {
    const { own } = this;
    return {
      ...address,
      get identity() {
        return own.material ?? address.identity;
      },
    };
  }

  /** `close` may have come while it was being opened, and then did not see it. */
  private async assertNotClosed(opened: { close(): Promise<void> }): Promise<void> {
    if (!this.aborter.signal.aborted) return;
    await opened.close();
    throw CommonErrors.CANCELLED({ what: 'the transfer' });
  }

  private async conclude(): Promise<ConcludedBackup | undefined> {
    if (this.backup) {
      const { indexRoot, storedBytes } = await this.backup.commit(this.plan, this.source);
      return { indexRoot, storedBytes };
    }
    await this.target?.flush();
    return undefined;
  }
}
