import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Core } from '../model/core';
import type { Disk, DiskAttachment } from '../model/entities';
import { chainOf } from './images';

/** `POST /captures` for a disk that is attached as it was in a snapshot: what its reader should see, beside those of transfers. */
export async function captureAttached(core: Core, attachment: DiskAttachment, disk: Disk): Promise<void> {
  const { db, fleet, captures } = core;
  const snapshot = attachment.snapshotId === undefined ? undefined : db.snapshots.get(attachment.snapshotId);
  const frozen = db.volumes.find((volume) => volume.diskId === disk.id && volume.snapshotId === attachment.snapshotId);
  if (captures.folder === undefined || snapshot === undefined || frozen === undefined) return;
  const folder = join(captures.folder, snapshot.id);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'description'), snapshot.description);
  await fleet.dumpDisk(chainOf(db, disk, frozen.id), join(folder, `${disk.id}.raw`));
}
