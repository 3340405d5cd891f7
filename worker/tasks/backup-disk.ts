import { ClaimedDisk } from '../attached-disks/claimed-disk';
import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import { BlockPlan, addExtent } from '../extents/block-plan';
import { WorkCursor } from '../extents/work-cursor';
import { choosePath } from '../imageio/choose-path';
import { ImageErrors, WorkerErrors } from '../errors/worker-errors';
import { openPatienceMs, reopenPatienceMs } from '../mover-client/reopening';
import type { CounterName, SharedCounters } from '../pipeline/counters';
import type { Lane, LanePool } from '../pipeline/lane-pool';
import type { OpenBackup, OpenedBackup } from '../pipeline/lane-messages';
import { FileSource } from '../sources/file-source';
import type { SourceDescription } from '../sources/open-source';
import { connectionsPerLane, usableLanes } from './disk-task';
import type { AttachedDisk, BackupDisk, ImageTransfer, TaskContext } from './disk-task';

/** A mover that was restarted, or another one, has of the disk what was durable; so often it is begun again without more of it being there each time. */
const maxFruitlessStarts = 4;

/** What one start of a disk leaves for the next. */
interface Progress {
  /** Blocks that the mover had at the last start. */
  mappedBlocks: number;
  isBegun: boolean;
}

/**
 * Reads a disk and sends it. Extents first, then only data; all lanes share the work; one commits. Throws CANCELLED,
 * CHANGED_EXTENTS_UNAVAILABLE (advice: full backup), ATTACHED_DISK_…, IMAGE_…, SOURCE_UNREADABLE, MOVER_…, and what the mover answers.
 */
export async function backupDisk(task: BackupDisk, pool: LanePool, context: TaskContext): Promise<void> {
  if (task.source.kind !== 'attached') return repeated(task, task.source, pool, context);
  const disk = await ClaimedDisk.claim(task.source, 'read', context.devices, context.signal);
  try {
    const { sizeBytes, zeroRanges } = task.source;
    await repeated(task, { kind: 'device', path: disk.path, sizeBytes, isAttached: true, zeroRanges }, pool, context);
  } finally {
    // All lanes are closed by now.
    await disk.release();
  }
}

/** What lanes read: a plugged disk is a device by now. */
type ReadableSource = Exclude<BackupDisk['source'], { kind: 'attached' }> & {
  readonly isAttached?: boolean;
  readonly zeroRanges?: AttachedDisk['zeroRanges'];
};

async function repeated(task: BackupDisk, source: ReadableSource, pool: LanePool, context: TaskContext): Promise<void> {
  const progress: Progress = { mappedBlocks: 0, isBegun: false };
  for (let fruitless = 1; ; fruitless += 1) {
    const before = progress.mappedBlocks;
    try {
      return await backupOnce(task, source, pool, context, progress);
    } catch (error) {
      if (progress.mappedBlocks > before) fruitless = 1;
      if (!hasCode(error, 'MOVER_STATE_LOST') || fruitless === maxFruitlessStarts || context.signal.aborted) throw error;
    }
  }
}

async function backupOnce(
  task: BackupDisk,
  source: ReadableSource,
  pool: LanePool,
  context: TaskContext,
  progress: Progress,
): Promise<void> {
  const { signal } = context;
  if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'the backup' });
  const lanes = pool.createLanes();
  const closeAll = () => Promise.all(lanes.map((lane) => lane.close()));
  const abort = () => void closeAll();
  signal.addEventListener('abort', abort, { once: true });
  const unfollow = context.route.onChange((address) => lanes.forEach((lane) => lane.changeAddress(address)));
  try {
    await throughLanes(task, source, lanes, context, progress);
  } catch (error) {
    if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'the backup' }, { cause: error });
    throw error;
  } finally {
    unfollow();
    signal.removeEventListener('abort', abort);
    await closeAll();
  }
}

async function throughLanes(
  task: BackupDisk,
  from: ReadableSource,
  all: readonly Lane[],
  context: TaskContext,
  progress: Progress,
): Promise<void> {
  const { counters, outcome } = context;
  const source = await openForPlanning(task, from, all.length, context);
  try {
    const lanes = all.slice(0, source.lanes);
    const { diskId, basePointId, baseDiskId } = task;
    const open: OpenBackup = {
      kind: 'backup',
      address: context.route.current ?? task.address,
      patienceMs: progress.isBegun ? reopenPatienceMs : openPatienceMs,
      // A task reads one content; whoever is given the disk after it may read another one, of which nothing may be mixed into this.
      disk: { diskId, sizeBytes: source.sizeBytes, basePointId, baseDiskId, contentId: context.taskId },
      counters: counters.shared,
      rateBytesPerSecond: task.limits.rateBytesPerSecond / lanes.length,
    };
    const opened = await Promise.all(lanes.map((lane) => lane.openBackup(open)));
    const [first] = opened as [OpenedBackup];
    progress.isBegun = true;
    // A mover that was restarted between two of them started the disk twice.
    if (opened.some((other) => other.handle !== first.handle)) throw WorkerErrors.MOVER_STATE_LOST({ diskId });
    // Committed before in this session (its answer was lost): there is nothing to send, and no root to tell.
    if (first.committed) return;
    const plan = await source.plan(first.blockSizeBytes);
    const totals = plan.totals();
    raiseTo(counters, 'plannedBytes', totals.dataBytes);
    raiseTo(counters, 'zeroBytes', task.scope === 'changed' ? totals.zeroBytes : source.sizeBytes - totals.dataBytes);
    if (first.hasMapped) progress.mappedBlocks = await (lanes[0] as Lane).subtractMapped({ plan: plan.shared });
    const cursor = WorkCursor.create(plan.blockCount);
    const run = { kind: 'backup' as const, plan: plan.shared, cursor: cursor.shared, source: source.description };
    // The planning connection counts against the image's limit until it is gone.
    await source.close();
    await allOrFirstFailure(
      lanes,
      lanes.map((lane) => lane.run(run)),
    );
    const { indexRoot, storedBytes } = await (lanes[0] as Lane).commit();
    outcome.indexRoot = indexRoot;
    raiseTo(counters, 'storedBytes', storedBytes);
  } finally {
    await source.close();
  }
}

/** A source before the blocks are known: how lanes open it, and what of it they read. */
interface PlannedSource {
  readonly sizeBytes: number;
  readonly lanes: number;
  readonly description: SourceDescription;
  plan(blockSizeBytes: number): Promise<BlockPlan>;
  close(): Promise<void>;
}

async function openForPlanning(task: BackupDisk, source: ReadableSource, lanes: number, context: TaskContext): Promise<PlannedSource> {
  if (source.kind === 'image') return openImageForPlanning(task, source.transfer, lanes, context);
  const { path, sizeBytes, isAttached = false, zeroRanges = [] } = source;
  context.outcome.imagePath = isAttached ? 'IMAGE_PATH_ATTACHED' : 'IMAGE_PATH_LOCAL';
  if (task.scope === 'changed') throw ImageErrors.CHANGED_EXTENTS_UNAVAILABLE({ reason: 'a local device does not track changes' });
  // Of a plugged disk the kernel told the size, and it was compared.
  const foundBytes = isAttached ? sizeBytes : await FileSource.sizeOf(path);
  if (sizeBytes !== 0 && foundBytes !== sizeBytes) throw ImageErrors.IMAGE_SIZE_MISMATCH({ expectedBytes: sizeBytes, foundBytes });
  return {
    sizeBytes: foundBytes,
    lanes,
    description: { kind: 'file', path, mode: isAttached ? 'direct' : 'cached' },
    plan: async (blockSizeBytes) => {
      const plan = BlockPlan.empty(foundBytes, blockSizeBytes);
      const add = (start: number, end: number, zero: boolean) => {
        if (end > start) addExtent(plan, 'allocated', task.basePointId !== '', { start, length: end - start, zero, dirty: false });
      };
      let at = 0;
      for (const { start, length } of zeroRanges) {
        add(at, start, false);
        add(start, start + length, true);
        at = start + length;
      }
      add(at, foundBytes, false);
      return plan;
    },
    close: async () => undefined,
  };
}

async function openImageForPlanning(
  task: BackupDisk,
  transfer: ImageTransfer,
  lanes: number,
  context: TaskContext,
): Promise<PlannedSource> {
  const chosen = await choosePath(transfer, context.signal);
  context.outcome.imagePath = chosen.path === 'direct' ? 'IMAGE_PATH_DIRECT' : 'IMAGE_PATH_PROXY';
  context.outcome.imagePathReason = chosen.reason;
  const used = usableLanes(task.limits, chosen.options.maxReaders, lanes);
  const { sizeBytes } = transfer;
  return {
    sizeBytes,
    lanes: used,
    description: {
      kind: 'image',
      endpoint: chosen.endpoint,
      connections: connectionsPerLane(task.limits, chosen.options.maxReaders, used),
    },
    plan: async (blockSizeBytes) => {
      let plan = BlockPlan.empty(sizeBytes, blockSizeBytes);
      const hasBase = task.basePointId !== '';
      const foundBytes = await chosen.client.extents(task.scope === 'changed' ? 'dirty' : 'zero', () => {
        plan = BlockPlan.empty(sizeBytes, blockSizeBytes);
        return (start, length, zero, dirty) => addExtent(plan, task.scope, hasBase, { start, length, zero, dirty });
      });
      if (foundBytes !== sizeBytes) throw ImageErrors.IMAGE_SIZE_MISMATCH({ expectedBytes: sizeBytes, foundBytes });
      return plan;
    },
    close: () => chosen.client.close(),
  };
}

/** Counters only grow, also when a disk is started again. */
function raiseTo(counters: SharedCounters, name: CounterName, bytes: number): void {
  counters.add(name, Math.max(0, bytes - counters.get(name)));
}

/** Waits for all; when one fails the others are closed at once, and the failure that came first is thrown. */
export async function allOrFirstFailure(lanes: readonly Lane[], work: readonly Promise<unknown>[]): Promise<void> {
  let failure: { error: unknown } | undefined;
  await Promise.all(
    work.map((one) =>
      one.catch(async (error: unknown) => {
        if (failure) return;
        failure = { error };
        await Promise.all(lanes.map((lane) => lane.close()));
      }),
    ),
  );
  if (failure) throw failure.error;
}
