/** A device that gets full under a running backup: that one ends well, the next is refused until there is room again. Worker and mover as real processes. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { eventually } from '../harness/child';
import { DataPathRig } from './rig';

const mib = 1024 * 1024;
const sizeBytes = 32 * mib;
const deviceMib = 96;
/** The mover wants to see this much free when a backup begins. */
const hardMib = 24;

let folder: string;
let device: string;
let rig: DataPathRig;

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-full-'));
  device = path.join(folder, 'device');
  fs.mkdirSync(device);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${deviceMib}m`, 'tmpfs', device]);
  rig = await DataPathRig.start(folder, {}, { limits: { minimumFreeBytes: hardMib * mib } });
}, 300_000);
afterAll(async () => {
  await rig.stop();
  execFileSync('umount', ['-l', device]);
  fs.rmSync(folder, { recursive: true, force: true });
});

const freeBytes = () => {
  const { bavail, bsize } = fs.statfsSync(device);
  return bavail * bsize;
};

it('a backup that runs while the device falls below the hard mark ends well, and the next one waits for room', async () => {
  const source = path.join(folder, 'source.raw');
  fs.writeFileSync(source, randomBytes(sizeBytes));
  const repositoryId = await rig.createRepository({ location: `directory:${path.join(device, 'repository')}` });
  const order = { diskId: 'd', localDevice: { path: source, sizeBytes: String(sizeBytes) } };
  let read = 0;
  const { sessionId, dataPath } = await rig.openBackup(repositoryId);
  const { result } = rig.plugin.run(
    { backupDisk: { ...order, readScope: 'READ_SCOPE_ALLOCATED', dataPath, limits: { rateBytesPerSecond: String(10 * mib) } } },
    ({ counters }) => (read = Number(counters?.readBytes)),
  );
  await eventually('some of it is read', 120_000, () => read > 4 * mib || undefined, 20);
  // Somebody else takes the rest, but for what the running backup may still need.
  const ballast = path.join(device, 'ballast');
  fs.writeFileSync(ballast, Buffer.alloc(freeBytes() - sizeBytes - 8 * mib));
  expect((await result).failure).toBeNull();
  expect(freeBytes()).toBeLessThan(hardMib * mib);
  const pointId = await rig.commit(sessionId, 'd', sizeBytes);

  const refused = { code: 'REPOSITORY_FULL', message: expect.stringContaining(`${hardMib} MiB needed`) as string };
  await expect(rig.openBackup(repositoryId)).rejects.toMatchObject(refused);
  // Who restores needs no room, and it is whole.
  const out = path.join(folder, 'restored.raw');
  await rig.restore(repositoryId, { pointId, diskId: 'd', localFile: { path: out, format: 'FILE_FORMAT_RAW' } });
  execFileSync('cmp', [source, out]);
  await rig.verify(repositoryId);

  fs.rmSync(ballast);
  await rig.backup(repositoryId, { ...order, basePointId: pointId, baseDiskId: 'd' }, sizeBytes);
}, 300_000);
