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
  readonly userData: Uint8Array;
  /** JSON; absent when the engine was told nothing of the network. */
  readonly networkData: string | undefined;
}

const label = 'config-2';
/** Of OpenStack's metadata, in order: those that cloud-init 22.4 reads. */
const knownVersions = ['2012-08-10', '2013-04-04', '2013-10-17', '2015-10-15', '2016-06-30', '2016-10-06', '2017-02-22', '2018-08-27'];
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

/** The same from its tree, with the files that cloud-init asks for. Throws CONFIG_DRIVE_MISSING. */
export function readConfigDriveFolder(folder: string): ConfigDrive {
  const version = newestVersion(folder);
  const read = (name: string) => {
    try {
      return fs.readFileSync(path.join(folder, 'openstack', version, name));
    } catch (cause) {
      throw ApplianceErrors.CONFIG_DRIVE_MISSING({ where: folder, reason: `openstack/${version}/${name} cannot be read` }, { cause });
    }
  };
  checkMetaData(read('meta_data.json').toString('utf8'), folder);
  const userData = read('user_data');
  try {
    return { userData, networkData: fs.readFileSync(path.join(folder, 'openstack', version, 'network_data.json'), 'utf8') };
  } catch {
    // The engine leaves it out when it has nothing to say.
    return { userData, networkData: undefined };
  }
}

/** `latest`, which is all that the engine writes, unless there is a dated one that cloud-init knows. */
function newestVersion(folder: string): string {
  let there: string[] = [];
  try {
    there = fs.readdirSync(path.join(folder, 'openstack'));
  } catch {
    // Told by the file that is then not found.
  }
  return knownVersions.findLast((version) => there.includes(version)) ?? 'latest';
}

/** Nothing of it is used, but a drive without is half a drive. */
function checkMetaData(text: string, folder: string): void {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return;
  } catch {
    // Told below.
  }
  throw ApplianceErrors.CONFIG_DRIVE_MISSING({ where: folder, reason: 'meta_data.json is not a JSON object' });
}

async function findDrive(): Promise<string> {
  const until = performance.now() + patienceMs;
  for (;;) {
    const drives = fs.readdirSync('/sys/block').filter((name) => /^sr\d+$/.test(name));
    const found = drives.map((name) => `/dev/${name}`).find((device) => volumeLabel(device) === label);
    if (found !== undefined) return found;
    if (performance.now() > until) {
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
