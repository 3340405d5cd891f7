import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { AttachedDiskErrors } from '../errors/worker-errors';
import type { DeviceTree, SerialDevice } from './device-tree';
import { findDisk } from './find-disk';
import type { WantedDisk } from './find-disk';

/** A device that hangs must not keep a task from ending. */
const flushPatienceMs = 30_000;

/**
 * A plugged disk that this task alone has. While it is held the kernel gives it to no second claimant (no mount, no other task) and does not give its name
 * to another disk; lanes open the same path beside it. Release it when all of them are closed: then nothing of ours holds the disk and
 * nothing of it is cached, so that the engine can unplug it.
 */
export class ClaimedDisk {
  private constructor(
    readonly device: SerialDevice,
    private readonly handle: FileHandle,
  ) {}

  /** Throws what `findDisk` throws, ATTACHED_DISK_IN_USE, ATTACHED_DISK_UNUSABLE. */
  static async claim(wanted: WantedDisk, access: 'read' | 'write', tree: DeviceTree, signal: AbortSignal): Promise<ClaimedDisk> {
    const device = await findDisk(wanted, tree, signal);
    const { serial } = wanted;
    const mode = access === 'read' ? fs.constants.O_RDONLY : fs.constants.O_RDWR;
    let handle: FileHandle;
    try {
      handle = await open(device.path, mode | fs.constants.O_EXCL);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
      if (code === 'EBUSY') throw AttachedDiskErrors.ATTACHED_DISK_IN_USE({ serial, device: device.name }, { cause });
      throw AttachedDiskErrors.ATTACHED_DISK_UNUSABLE({ serial, device: device.name, problem: code }, { cause });
    }
    try {
      await assertSame(device, handle, serial);
      return new ClaimedDisk(device, handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  get path(): string {
    return this.device.path;
  }

  /** Drops what is cached of the disk and lets go of it. Never throws. */
  async release(): Promise<void> {
    // The last close does the same; this is for the case that somebody else (a monitor that lists disks) has it open too.
    await flushBuffers(this.path);
    await this.handle.close().catch(() => undefined);
  }
}

/** The name in the device folder must be the device that the kernel's list meant. */
async function assertSame(device: SerialDevice, handle: FileHandle, serial: string): Promise<void> {
  const { rdev } = await handle.stat({ bigint: true });
  const number = `${majorOf(rdev)}:${minorOf(rdev)}`;
  if (number === device.number) return;
  const problem = `its file in the device folder is device ${number}, not ${device.number}`;
  throw AttachedDiskErrors.ATTACHED_DISK_UNUSABLE({ serial, device: device.name, problem });
}

/** As glibc's gnu_dev_major and gnu_dev_minor. */
function majorOf(rdev: bigint): bigint {
  return ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
}

function minorOf(rdev: bigint): bigint {
  return (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
}

/** By a tool of util-linux, since Node.js has no system call for it. A tool that hangs in the kernel cannot even be killed and is not waited for. */
function flushBuffers(device: string): Promise<void> {
  return new Promise((resolve) => {
    const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
    const child = spawn('blockdev', ['--flushbufs', device], { stdio: 'ignore', env: { PATH } });
    const end = () => {
      clearTimeout(late);
      resolve();
    };
    const late = setTimeout(() => {
      child.kill('SIGKILL');
      child.unref();
      resolve();
    }, flushPatienceMs);
    child.once('error', end);
    child.once('close', end);
  });
}
