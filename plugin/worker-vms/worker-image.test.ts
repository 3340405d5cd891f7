import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { WorkerImages, defaultImageFolder } from './worker-image';

let folder: string;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-worker-image-'));
});
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

function put(version: string, change: { image?: Buffer; sha256?: string; at?: number } = {}): void {
  const image = change.image ?? qcow2();
  const sha256 = change.sha256 ?? createHash('sha256').update(image).digest('hex');
  fs.writeFileSync(path.join(folder, `tidemark-worker-${version}.qcow2`), image);
  const manifest = path.join(folder, `tidemark-worker-${version}.json`);
  fs.writeFileSync(manifest, JSON.stringify({ version, sha256, packages: {} }));
  if (change.at !== undefined) fs.utimesSync(manifest, change.at, change.at);
}

function qcow2(backing = 0n): Buffer {
  const image = Buffer.alloc(1000);
  image.writeUInt32BE(0x514649fb, 0);
  image.writeBigUInt64BE(backing, 8);
  image.writeBigUInt64BE(5_368_709_120n, 24);
  return image;
}

it('takes the newest release, and of two builds of it the later one', async () => {
  put('1.9.0-ffff', { at: 3000 });
  put('1.10.0-ffff', { at: 1000 });
  put('1.10.0-aaaa', { at: 2000 });
  const images = new WorkerImages(folder);
  expect(images.latest).toBeUndefined();
  expect(await images.verified()).toMatchObject({
    version: '1.10.0-aaaa',
    fileBytes: 1000,
    diskBytes: 5_368_709_120,
    path: path.join(folder, 'tidemark-worker-1.10.0-aaaa.qcow2'),
  });
  expect(images.latest?.version).toBe('1.10.0-aaaa');
});

it('says where to put an image when there is none, and remembers that', async () => {
  const images = new WorkerImages(folder);
  await expect(images.find()).rejects.toMatchObject({ code: 'WORKER_IMAGE_MISSING', status: 'FAILED_PRECONDITION' });
  expect(images.missing?.message).toContain(`to ${folder} on the plug-in's machine`);
  await expect(new WorkerImages(path.join(folder, 'nowhere')).find()).rejects.toMatchObject({ code: 'WORKER_IMAGE_MISSING' });
  put('1');
  await images.find();
  expect(images.missing).toBeUndefined();
});

it('refuses what is damaged', async () => {
  const images = new WorkerImages(folder);
  put('1', { sha256: 'a'.repeat(64) });
  await images.find();
  await expect(images.verified()).rejects.toMatchObject({
    code: 'WORKER_IMAGE_DAMAGED',
    meta: { problem: expect.stringContaining('SHA-256') },
  });
  put('2', { image: qcow2(8n) });
  await expect(images.find()).rejects.toMatchObject({ code: 'WORKER_IMAGE_DAMAGED', meta: { problem: 'it has a backing file' } });
  put('3', { image: Buffer.alloc(100) });
  await expect(images.find()).rejects.toMatchObject({ code: 'WORKER_IMAGE_DAMAGED', meta: { problem: 'it is not a qcow2 file' } });
  fs.rmSync(path.join(folder, 'tidemark-worker-3.qcow2'));
  await expect(images.find()).rejects.toMatchObject({ code: 'WORKER_IMAGE_DAMAGED' });
  fs.writeFileSync(path.join(folder, 'tidemark-worker-4.json'), '{"version":"4"}');
  await expect(images.find()).rejects.toMatchObject({
    code: 'WORKER_IMAGE_DAMAGED',
    meta: { problem: 'it does not name version and sha256' },
  });
});

it('is looked for beside the installation, else where the package puts it', () => {
  expect(defaultImageFolder(folder)).toBe('/usr/share/tidemark/worker-image');
  const built = path.join(folder, '.cache', 'worker-image');
  fs.mkdirSync(built, { recursive: true });
  expect(defaultImageFolder(folder)).toBe(built);
});
