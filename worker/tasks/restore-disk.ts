import { ClaimedDisk } from '../attached-disks/claimed-disk';
import type { SerialDevice } from '../attached-disks/device-tree';
import { CommonErrors } from '../../common/errors/common-errors';
import { WorkCursor } from '../extents/work-cursor';
import { choosePath } from '../imageio/choose-path';
import { ImageErrors } from '../errors/worker-errors';
import { openPatienceMs } from '../mover-client/reopening';
import type { OpenRestore, OpenedRestore, RunRestore } from '../pipeline/lane-messages';
import type { Lane, LanePool } from '../pipeline/lane-pool';
import type { TargetDescription } from '../targets/open-target';
import { LocalFile } from '../targets/local-file';
import { allOrFirstFailure } from './backup-disk';
import { connectionsPerLane, usableLanes } from './disk-task';
import type { ImageTransfer, RestoreDisk, TaskContext } from './disk-task';

/**
 * Reads a disk of a point and writes it. A local file gets its name only when it is whole; an image is flushed at the end. After a failure or cancel an
 * image is left half written (its transfer must be cancelled), as is a plugged disk (it must be removed), of a file nothing is left.
 * Throws CANCELLED, TARGET_…, ATTACHED_DISK_…, IMAGE_…, MOVER_…, BLOCK_CORRUPT, and what the mover answers.
 */
export async function restoreDisk(task: RestoreDisk, pool: LanePool, context: TaskContext): Promise<void> {
  if (task.target.kind !== 'attached') return restoreTo(task, task.target, pool, context);
  const disk = await ClaimedDisk.claim(task.target, 'write', context.devices, context.signal);
  try {
    await restoreTo(task, { kind: 'device', device: disk.device, readsZero: task.target.readsZero }, pool, context);
  } finally {
    // All lanes are closed by now.
    await disk.release();
  }
}

/** What lanes write: a plugged disk is a device by now. */
type WritableTarget =
  | Exclude<RestoreDisk['target'], { kind: 'attached' }>
  | { readonly kind: 'device'; readonly device: SerialDevice; readonly readsZero: boolean };

async function restoreTo(task: RestoreDisk, to: WritableTarget, pool: LanePool, context: TaskContext): Promise<void> {
  const { signal } = context;
  if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'the restore' });
  const lanes = pool.createLanes();
  const closeAll = () => Promise.all(lanes.map((lane) => lane.close()));
  const abort = () => void closeAll();
  signal.addEventListener('abort', abort, { once: true });
  const unfollow = context.route.onChange((address) => lanes.forEach((lane) => lane.changeAddress(address)));
  try {
    await throughLanes(task, to, lanes, context);
  } catch (error) {
    if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'the restore' }, { cause: error });
    throw error;
  } finally {
    unfollow();
    signal.removeEventListener('abort', abort);
    await closeAll();
  }
}

async function throughLanes(task: RestoreDisk, to: WritableTarget, all: readonly Lane[], context: TaskContext): Promise<void> {
  const { counters } = context;
  const target = await openTarget(task, to, all.length, context);
  try {
    const lanes = all.slice(0, target.lanes);
    const open: OpenRestore = {
      kind: 'restore',
      address: context.route.current ?? task.address,
      patienceMs: openPatienceMs,
      pointId: task.pointId,
      diskId: task.diskId,
      counters: counters.shared,
      rateBytesPerSecond: task.limits.rateBytesPerSecond / lanes.length,
    };
    const opened = await Promise.all(lanes.map((lane) => lane.openRestore(open)));
    const [{ sizeBytes, blockSizeBytes, allocatedBlocks }] = opened as [OpenedRestore];
    counters.add('plannedBytes', Math.min(allocatedBlocks * blockSizeBytes, sizeBytes));
    const blockCount = Math.ceil(sizeBytes / blockSizeBytes);
    const cursor = WorkCursor.create(blockCount);
    const description = await target.prepare(sizeBytes);
    const run: RunRestore = { kind: 'restore', cursor: cursor.shared, blockCount, target: description };
    await allOrFirstFailure(
      lanes,
      lanes.map((lane) => lane.run(run)),
    );
    await (lanes[0] as Lane).flush();
    await Promise.all(lanes.map((lane) => lane.close()));
    await target.publish();
  } finally {
    await target.discard();
  }
}

/** A target before the disk's size is known. */
interface PlannedTarget {
  readonly lanes: number;
  prepare(sizeBytes: number): Promise<TargetDescription>;
  publish(): Promise<void>;
  discard(): Promise<void>;
}

async function openTarget(task: RestoreDisk, to: WritableTarget, lanes: number, context: TaskContext): Promise<PlannedTarget> {
  if (to.kind === 'image') return openImage(task, to.transfer, lanes, context);
  if (to.kind === 'device') return openDevice(to.device, to.readsZero, lanes, context);
  const { path, format } = to;
  context.outcome.imagePath = 'IMAGE_PATH_LOCAL';
  let file: LocalFile | undefined;
  // Refused before anything is read, and again, atomically, at the end.
  await LocalFile.assertFree(path);
  return {
    lanes,
    prepare: async (sizeBytes) => {
      file = await LocalFile.create(path, format, sizeBytes);
      return { kind: 'file', path: file.writePath };
    },
    publish: async () => file?.publish(context.signal),
    discard: async () => file?.discard(),
  };
}

function openDevice(device: SerialDevice, readsZero: boolean, lanes: number, context: TaskContext): PlannedTarget {
  context.outcome.imagePath = 'IMAGE_PATH_ATTACHED';
  return {
    lanes,
    prepare: async (sizeBytes) => {
      // A larger target is fine: engines round sizes up. What lies behind the disk's end is left as it was.
      if (device.sizeBytes < sizeBytes) throw ImageErrors.IMAGE_SIZE_MISMATCH({ expectedBytes: sizeBytes, foundBytes: device.sizeBytes });
      return { kind: 'device', path: device.path, readsZero };
    },
    publish: async () => undefined,
    discard: async () => undefined,
  };
}

async function openImage(task: RestoreDisk, transfer: ImageTransfer, lanes: number, context: TaskContext): Promise<PlannedTarget> {
  const chosen = await choosePath(transfer, context.signal);
  context.outcome.imagePath = chosen.path === 'direct' ? 'IMAGE_PATH_DIRECT' : 'IMAGE_PATH_PROXY';
  context.outcome.imagePathReason = chosen.reason;
  await chosen.client.close();
  const { maxWriters } = chosen.options;
  const used = usableLanes(task.limits, maxWriters, lanes);
  return {
    lanes: used,
    prepare: async (sizeBytes) => {
      // A larger target is fine: engines round sizes up. What lies behind the disk's end is left as the engine made it.
      if (transfer.sizeBytes < sizeBytes)
        throw ImageErrors.IMAGE_SIZE_MISMATCH({ expectedBytes: sizeBytes, foundBytes: transfer.sizeBytes });
      return { kind: 'image', endpoint: chosen.endpoint, connections: connectionsPerLane(task.limits, maxWriters, used) };
    },
    publish: async () => undefined,
    discard: async () => undefined,
  };
}
