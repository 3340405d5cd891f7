import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { DeviceTree, vpdSerial } from './device-tree';
import { findDisk, showsSerial } from './find-disk';

const serial = '0f3a7c51-9d2e-4b68-8a10-5c4e7d9b2f63';
const mib = 1024 * 1024;
let folder: string;
let tree: DeviceTree;

beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'tidemark-sys-'));
  await fs.mkdir(path.join(folder, 'block'));
  tree = new DeviceTree(folder, '/dev');
});
afterEach(() => fs.rm(folder, { recursive: true, force: true }));

async function put(file: string, content: string | Buffer): Promise<void> {
  await fs.mkdir(path.dirname(path.join(folder, file)), { recursive: true });
  await fs.writeFile(path.join(folder, file), content);
}

/** As the kernel shows a virtio-blk disk. */
async function virtio(name: string, shown: string, sizeBytes = 64 * mib): Promise<void> {
  await put(`block/${name}/serial`, `${shown.slice(0, 20)}\n`);
  await put(`block/${name}/size`, `${sizeBytes / 512}\n`);
  await put(`block/${name}/dev`, '252:16\n');
}

/** As it shows a virtio-scsi disk of QEMU: page 0x80 with the whole serial. */
async function scsi(name: string, shown: string, state = 'running'): Promise<void> {
  const length = Buffer.alloc(4);
  length[1] = 0x80;
  length.writeUInt16BE(shown.length, 2);
  await put(`block/${name}/device/vpd_pg80`, Buffer.concat([length, Buffer.from(shown)]));
  await put(`block/${name}/device/state`, `${state}\n`);
  await put(`block/${name}/size`, `${(64 * mib) / 512}\n`);
  await put(`block/${name}/dev`, '8:16\n');
}

function find(patienceMs = 0, sizeBytes = 64 * mib, signal = new AbortController().signal) {
  return findDisk({ serial, sizeBytes, patienceMs }, tree, signal, 10);
}

describe('finding a plugged disk', () => {
  it.each([
    ['virtio, 20 characters', () => virtio('vdb', serial), 'vdb'],
    ['virtio-scsi, all of them', () => scsi('sdc', serial), 'sdc'],
  ])('knows it by its serial: %s', async (_name, plug, name) => {
    await virtio('vda', 'ffffffff-9d2e-4b68-8a10-5c4e7d9b2f63');
    await scsi('sda', '11111111-9d2e-4b68-8a10-5c4e7d9b2f63');
    await put('block/loop0/size', '2048\n');
    await plug();
    expect(await find()).toMatchObject({ name, path: `/dev/${name}`, sizeBytes: 64 * mib });
  });

  it('does not take a disk that differs behind the 20th character, where the device shows it', async () => {
    await scsi('sdb', `${serial.slice(0, 30)}000000`);
    await expect(find()).rejects.toMatchObject({ code: 'ATTACHED_DISK_NOT_FOUND', retry: 'same-request' });
  });

  it('takes none of two', async () => {
    await scsi('sdb', serial);
    await virtio('vdb', serial);
    await expect(find()).rejects.toMatchObject({ code: 'ATTACHED_DISK_AMBIGUOUS', meta: { devices: 'sdb, vdb' } });
  });

  it('takes none of another size', async () => {
    await virtio('vdb', serial, 65 * mib);
    await expect(find()).rejects.toMatchObject({
      code: 'ATTACHED_DISK_SIZE_DIFFERS',
      meta: { expectedBytes: 64 * mib, foundBytes: 65 * mib },
    });
  });

  it('takes a volume whose last extent is larger than the disk', async () => {
    await virtio('vdb', serial, 256 * mib);
    expect(await find(0, 130 * mib)).toMatchObject({ name: 'vdb' });
    await expect(find(0, 120 * mib)).rejects.toMatchObject({ code: 'ATTACHED_DISK_SIZE_DIFFERS' });
  });

  it('does not take what is left of a disk that was unplugged', async () => {
    await scsi('sdb', serial, 'offline');
    await scsi('sdc', serial);
    expect(await find()).toMatchObject({ name: 'sdc' });
  });

  it('waits for it, and has SCSI hosts look again', async () => {
    await put('class/scsi_host/host0/scan', '');
    await put('class/scsi_host/host1/scan', '');
    const found = find(600_000);
    while ((await fs.readFile(path.join(folder, 'class/scsi_host/host1/scan'), 'utf8')) !== '- - -') {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await scsi('sdb', serial);
    expect(await found).toMatchObject({ name: 'sdb', number: '8:16' });
  });

  it('waits for a disk that the kernel shows in part, as it does while it plugs it', async () => {
    const half = path.join(folder, 'block/sdb/dev');
    await scsi('sdb', serial);
    await fs.rename(half, `${half}-to-come`);
    await expect(find()).rejects.toMatchObject({ code: 'ATTACHED_DISK_NOT_FOUND' });
    const found = find(600_000);
    await fs.rename(`${half}-to-come`, half);
    expect(await found).toMatchObject({ name: 'sdb', number: '8:16' });
  });

  it('gives up when it is cancelled', async () => {
    const aborter = new AbortController();
    const found = find(60_000, 64 * mib, aborter.signal);
    aborter.abort();
    await expect(found).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

describe('serial numbers', () => {
  it('compare as far as the device tells them, and never by a shorter beginning', () => {
    expect(showsSerial(serial.slice(0, 20), serial)).toBe(true);
    expect(showsSerial(serial, serial)).toBe(true);
    expect(showsSerial(serial.slice(0, 19), serial)).toBe(false);
    expect(showsSerial(`${serial}x`, serial)).toBe(false);
    expect(showsSerial('', serial)).toBe(false);
    expect(showsSerial('disk-1', 'disk-1')).toBe(true);
  });

  it('are read from page 0x80 only, and only what it announces', () => {
    expect(vpdSerial(Buffer.from([0, 0x80, 0, 3, 65, 66, 67, 68]))).toBe('ABC');
    expect(vpdSerial(Buffer.from([0, 0x83, 0, 3, 65, 66, 67]))).toBe('');
    expect(vpdSerial(Buffer.from([0, 0x80]))).toBe('');
  });
});
