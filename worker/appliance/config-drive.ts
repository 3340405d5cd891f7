/**
 * The CD that the engine makes for a start. Only CD drives are looked at: a disk that hangs on this VM to be backed up is somebody else's, and
 * must not be able to tell the worker what to do.
 */
import fs from 'node:fs';
import path from 'node:path';
import { pause } from '../../common/rpc/call';
import { ApplianceErrors } from '../errors/appliance-errors';
import { run } from './commands';

export interface ConfigDrive {
  readonly userData: string;
  /** JSON; absent when the engine was told nothing of the network. */
  readonly networkData: string | undefined;
}

const label = 'config-2';
const mountPoint = '/run/tidemark/config-drive';
/** Controllers may need a moment to find their drives. */
const patienceMs = 10_000;

/** Finds the drive, reads it, lets it go. Throws CONFIG_DRIVE_MISSING. */
export async function readConfigDrive(): Promise<ConfigDrive> {
  const device = await findDrive();
  fs.mkdirSync(mountPoint, { recursive: true });
  try {
    await run('mount', ['-t', 'iso9660', '-o', 'ro,nosuid,nodev,noexec', device, mountPoint]);
  } catch (cause) {
    throw ApplianceErrors.CONFIG_DRIVE_MISSING({ where: device, reason: 'it cannot be mounted' }, { cause });
  }
  try {
    return readConfigDriveFolder(mountPoint);
  } finally {
    await run('umount', [mountPoint]);
  }
}

/** The same from its tree. Throws CONFIG_DRIVE_MISSING. */
export function readConfigDriveFolder(folder: string): ConfigDrive {
  const read = (name: string) => fs.readFileSync(path.join(folder, 'openstack', 'latest', name), 'utf8');
  let userData: string;
  try {
    userData = read('user_data');
  } catch (cause) {
    throw ApplianceErrors.CONFIG_DRIVE_MISSING({ where: folder, reason: 'openstack/latest/user_data cannot be read' }, { cause });
  }
  try {
    return { userData, networkData: read('network_data.json') };
  } catch {
    // The engine leaves it out when it has nothing to say.
    return { userData, networkData: undefined };
  }
}

async function findDrive(): Promise<string> {
  const until = Date.now() + patienceMs;
  for (;;) {
    const drives = fs.readdirSync('/sys/block').filter((name) => /^sr\d+$/.test(name));
    const found = drives.map((name) => `/dev/${name}`).find((device) => volumeLabel(device) === label);
    if (found !== undefined) return found;
    if (Date.now() > until) {
      const reason = drives.length === 0 ? 'there is no CD drive' : `no CD has the volume label ${label}`;
      throw ApplianceErrors.CONFIG_DRIVE_MISSING({ where: drives.join(', ') || '/dev/sr*', reason });
    }
    await pause(200);
  }
}

/** Of the primary volume descriptor: ECMA-119, 8.4, sector 16. Undefined without a medium. */
export function volumeLabel(device: string): string | undefined {
  let file: number | undefined;
  try {
    file = fs.openSync(device, 'r');
    const sector = Buffer.alloc(2048);
    if (fs.readSync(file, sector, 0, sector.length, 16 * 2048) < sector.length || sector.toString('latin1', 1, 6) !== 'CD001')
      return undefined;
    return sector.toString('latin1', 40, 72).trimEnd();
  } catch {
    // No medium, or not ready yet.
    return undefined;
  } finally {
    if (file !== undefined) fs.closeSync(file);
  }
}
