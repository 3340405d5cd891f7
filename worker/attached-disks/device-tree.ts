/**
 * Disks that the engine plugs into the worker VM: found by their serial number in the kernel's own list, since the appliance has no udev and so no
 * /dev/disk/by-id. This folder owns finding, claiming and letting go of such a disk; what is read from it or written to it is the pipeline's. The
 * bare device is all that is looked at: nothing is mounted, no volume group activated, no partition table read.
 *
 * Outside facts: a virtio-blk disk shows the first 20 characters of the engine's disk id in `serial`, a virtio-scsi one all 36 in page 0x80 of its
 * vital product data (Linux: Documentation/ABI, block `serial` and SCSI `vpd_pg80`; QEMU: VIRTIO_BLK_ID_BYTES).
 */
import fs from 'node:fs/promises';
import path from 'node:path';

const sectorBytes = 512;
/** Header of a VPD page: qualifier, page code, length (16 bits). */
const vpdHeaderBytes = 4;

/** A block device that shows a serial number. */
export interface SerialDevice {
  /** Kernel name: sdb, vdc. */
  readonly name: string;
  readonly serial: string;
  readonly sizeBytes: number;
  readonly path: string;
  /** `major:minor`. */
  readonly number: string;
}

/** The kernel's view of block devices, at injectable places. */
export class DeviceTree {
  constructor(
    private readonly sysFolder = '/sys',
    private readonly deviceFolder = '/dev',
  ) {}

  /** All devices that show a serial and are there as a whole, in the order of their names. */
  async devices(): Promise<SerialDevice[]> {
    const names = await namesIn(path.join(this.sysFolder, 'block'));
    const found = await Promise.all(names.map((name) => this.look(name)));
    return found.filter((device) => device !== undefined);
  }

  /** Asks SCSI hosts to look for disks that were plugged without an event reaching us. */
  async rescan(): Promise<void> {
    const hosts = await namesIn(path.join(this.sysFolder, 'class/scsi_host'));
    // A host that does not scan (or went away just now) finds nothing; the others still may.
    await Promise.allSettled(hosts.map((host) => fs.writeFile(path.join(this.sysFolder, 'class/scsi_host', host, 'scan'), '- - -')));
  }

  private async look(name: string): Promise<SerialDevice | undefined> {
    const at = (file: string) => path.join(this.sysFolder, 'block', name, file);
    const serial = (await text(at('serial'))) || vpdSerial(await bytes(at('device/vpd_pg80')));
    if (serial === '') return undefined;
    // A SCSI disk that was unplugged while something still held it.
    const state = await text(at('device/state'));
    if (state !== '' && state !== 'running' && state !== 'live') return undefined;
    const sectors = Number(await text(at('size')));
    if (!(sectors > 0)) return undefined;
    // The kernel lists a disk before it shows its attributes, this one last: without it the disk is only just being plugged.
    const number = await text(at('dev'));
    if (number === '') return undefined;
    return {
      name,
      serial,
      sizeBytes: sectors * sectorBytes,
      path: path.join(this.deviceFolder, name),
      number,
    };
  }
}

/** The serial in page 0x80, empty when the page is none. */
export function vpdSerial(page: Buffer): string {
  if (page.length <= vpdHeaderBytes || page[1] !== 0x80) return '';
  const length = page.readUInt16BE(2);
  return page
    .subarray(vpdHeaderBytes, vpdHeaderBytes + length)
    .toString('latin1')
    .replace(/\0/g, '')
    .trim();
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await fs.readdir(folder)).sort();
  } catch {
    return []; // no such class of devices on this machine
  }
}

/** Attributes come and go with their device. */
async function bytes(file: string): Promise<Buffer> {
  try {
    return await fs.readFile(file);
  } catch {
    return Buffer.alloc(0);
  }
}

async function text(file: string): Promise<string> {
  return (await bytes(file)).toString('latin1').trim();
}
