import { CommonErrors } from '../../common/errors/common-errors';
import { WorkCursor } from '../extents/work-cursor';
import { choosePath } from '../imageio/choose-path';
import { ImageErrors } from '../errors/worker-errors';
import type { OpenRestore, OpenedRestore, RunRestore } from '../pipeline/lane-messages';
import type { Lane, LanePool } from '../pipeline/lane-pool';
import type { TargetDescription } from '../targets/open-target';
import { LocalFile } from '../targets/local-file';
import { allOrFirstFailure } from './backup-disk';
import { connectionsPerLane, usableLanes } from './disk-task';
import type { ImageTransfer, RestoreDisk, TaskContext } from './disk-task';

/**
 * Reads a disk of a point and writes it. A local file gets its name only when it is whole; an image is flushed at the end. After a failure or cancel an
 * image is left half written (its transfer must be cancelled), of a file nothing is left.
 * Throws CANCELLED, TARGET_…, IMAGE_…, MOVER_…, BLOCK_CORRUPT, and what the mover answers.
 */
export async function restoreDisk(task: RestoreDisk, pool: LanePool, context: TaskContext): Promise<void> {
  const { signal } = context;
  if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'the restore' });
  const lanes = pool.createLanes();
  const closeAll = () => Promise.all(lanes.map((lane) => lane.close()));
  const abort = () => void closeAll();
  signal.addEventListener('abort', abort, { once: true });
  try {
    await throughLanes(task, lanes, context);
  } catch (error) {
    if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'the restore' }, { cause: error });
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
    await closeAll();
  }
}

async function throughLanes(task: RestoreDisk, all: readonly Lane[], context: TaskContext): Promise<void> {
  const { counters } = context;
  const target = await openTarget(task, all.length, context);
  try {
    const lanes = all.slice(0, target.lanes);
    const open: OpenRestore = {
      kind: 'restore',
      address: task.address,
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

async function openTarget(task: RestoreDisk, lanes: number, context: TaskContext): Promise<PlannedTarget> {
  if (task.target.kind === 'image') return openImage(task, task.target.transfer, lanes, context);
  const { path, format } = task.target;
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
