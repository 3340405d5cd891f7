import { CommonErrors } from '../../common/errors/common-errors';
import { pause } from '../../common/rpc/call';
import { AttachedDiskErrors } from '../errors/worker-errors';
import type { DeviceTree, SerialDevice } from './device-tree';

/** virtio-blk shows no more of a serial. */
export const shortSerialLength = 20;
const extentBytes = 128 * 1024 * 1024;
const lookEveryMs = 500;
/** Looks between two rescans; the first comes after the events had their chance. */
const looksPerRescan = 4;

/** A disk as the plug-in names it. */
export interface WantedDisk {
  /** The engine's disk id. */
  readonly serial: string;
  readonly sizeBytes: number;
  /** How long it may take to appear. */
  readonly patienceMs: number;
}

/**
 * The one device that shows the serial: its first 20 characters, and the rest too where the device shows more. Waits for it, and asks SCSI hosts to look
 * again. Throws ATTACHED_DISK_NOT_FOUND after the patience, ATTACHED_DISK_AMBIGUOUS, ATTACHED_DISK_SIZE_DIFFERS, CANCELLED.
 */
export async function findDisk(wanted: WantedDisk, tree: DeviceTree, signal: AbortSignal, lookMs = lookEveryMs): Promise<SerialDevice> {
  const { serial, sizeBytes } = wanted;
  const until = performance.now() + wanted.patienceMs;
  for (let look = 1; ; look += 1) {
    if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'waiting for a disk' });
    const devices = await tree.devices();
    const matches = devices.filter((device) => showsSerial(device.serial, serial));
    const [first] = matches;
    if (matches.length > 1) throw AttachedDiskErrors.ATTACHED_DISK_AMBIGUOUS({ serial, devices: matches.map((m) => m.name).join(', ') });
    if (first) {
      if (first.sizeBytes === sizeBytes || first.sizeBytes === inWholeExtents(sizeBytes)) return first;
      // A disk shows its size as it is plugged; one that differs is another disk, or was resized meanwhile.
      throw AttachedDiskErrors.ATTACHED_DISK_SIZE_DIFFERS({
        serial,
        device: first.name,
        expectedBytes: sizeBytes,
        foundBytes: first.sizeBytes,
      });
    }
    if (performance.now() >= until) {
      const seen = devices.map((device) => device.name).join(', ') || 'none';
      throw AttachedDiskErrors.ATTACHED_DISK_NOT_FOUND({ serial, waitedMs: wanted.patienceMs, seen });
    }
    if (look % looksPerRescan === 2) await tree.rescan();
    await pause(lookMs, signal);
  }
}

/** A raw disk on block storage is a logical volume, which the guest sees whole: oVirt makes volumes of extents of 128 MiB. */
function inWholeExtents(sizeBytes: number): number {
  return Math.ceil(sizeBytes / extentBytes) * extentBytes;
}

/** True when `shown`, as much of it as the device tells, is the beginning of `wanted`. */
export function showsSerial(shown: string, wanted: string): boolean {
  if (wanted.length < shortSerialLength || shown.length < shortSerialLength) return shown === wanted;
  return wanted.startsWith(shown);
}
