/** What a whole repository must do on every S3 server. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Maintenance } from '../maintenance/maintenance';
import { Verifier } from '../maintenance/verifier';
import { S3Store } from '../stores/s3/s3-store';
import type { S3Access } from '../stores/s3/bucket';
import { sampleBlock } from './test-disk';
import { quiet, TestRepository, testKey } from './test-repository';

export interface S3TestServer {
  readonly folder: string;
  readonly access: S3Access;
  location(prefix: string): string;
}

const blockBytes = 65_536;
const blocks = 40;
const sizeBytes = blocks * blockBytes;

/** Declares the tests; `server` is asked when they run. */
export function describeS3Repository(server: () => S3TestServer): void {
  const open = async (prefix: string, mover: string) => {
    const { folder, access } = server();
    const own = path.join(folder, `${prefix}-${mover}`);
    fs.mkdirSync(own, { recursive: true });
    return TestRepository.open(own, {
      store: await S3Store.open(server().location(prefix), access),
      key: testKey,
      packTargetBytes: 20 * 1024 * 1024,
      lock: { instanceId: mover, leaseDurationMs: 600_000, waitMs: 2_000 },
    });
  };
  const content = (seed: number) => new Map(Array.from({ length: blocks }, (_, i) => [i, sampleBlock(seed + i, blockBytes)] as const));
  const imageOf = (changes: ReadonlyMap<number, Buffer>, base?: Buffer) => {
    const image = base ? Buffer.from(base) : Buffer.alloc(sizeBytes);
    for (const [block, raw] of changes) raw.copy(image, block * blockBytes);
    return image;
  };

  test('keeps points of two movers that work at the same time, and finds all again without their caches', async () => {
    const prefix = randomUUID();
    const told = new Map<string, Buffer>();
    {
      await using one = await open(prefix, 'one');
      await using two = await open(prefix, 'two');
      const [first, second] = [content(1), content(1000)];
      const [a, b] = await Promise.all([one.backup(sizeBytes, first), two.backup(sizeBytes, second)]);
      told.set(a, imageOf(first)).set(b, imageOf(second));
      await one.repository.refresh();
      // On a point of the other mover, in packs that the other mover made.
      const changes = new Map([[7, sampleBlock(5000, blockBytes)]]);
      told.set(await one.backup(sizeBytes, changes, b), imageOf(changes, told.get(b)));
      await two.repository.updateSettings({ codec: 'lz4' });
      const text = new Map([[3, Buffer.alloc(blockBytes, 'a line of text\n')]]);
      told.set(await two.backup(sizeBytes, text, b), imageOf(text, told.get(b)));
    }
    fs.rmSync(path.join(server().folder, `${prefix}-one`), { recursive: true });
    await using again = await open(prefix, 'one');
    expect(again.repository.points.count).toBe(told.size);
    for (const [id, image] of told) expect((await again.read(id)).equals(image)).toBe(true);
    const verifier = new Verifier(again.repository, new AbortController().signal);
    await verifier.run(undefined);
    expect(verifier.findings).toEqual([]);
  }, 600_000);

  test('gives a session up without a trace of a point, and goes on', async () => {
    const prefix = randomUUID();
    await using test = await open(prefix, 'one');
    const session = await test.openSession();
    const draft = await test.openDisk(session, 'disk', sizeBytes);
    for (const [block, raw] of content(1)) await test.send(draft, block, raw, {});
    await session.abort('a test says so');
    expect(test.repository.points.count).toBe(0);
    const changes = new Map([[0, sampleBlock(1, blockBytes)]]);
    const point = await test.backup(sizeBytes, changes);
    expect((await test.read(point)).equals(imageOf(changes))).toBe(true);
  }, 600_000);

  test('gives the space of removed points back while two movers have it open', async () => {
    const prefix = randomUUID();
    await using one = await open(prefix, 'one');
    await using two = await open(prefix, 'two');
    const [keep, go] = [new Map([...content(1)].slice(0, 4)), content(1000)];
    const removed = await one.backup(sizeBytes, new Map([...go, ...keep]));
    const kept = await one.backup(sizeBytes, keep);
    const before = one.repository.index.packs.totalBytes;
    let aheadMs = 0;
    const maintenance = new Maintenance(quiet, { settings: { packAgeMs: 0, acknowledgeWaitMs: 0 }, now: () => Date.now() + aheadMs });
    await maintenance.removePoint(two.repository, removed);
    for (let round = 0; round < 3; round++, aheadMs += 48 * 60 * 60 * 1000) {
      for (const test of [one, two]) await test.repository.acknowledge();
      const operation = maintenance.startCollect(randomUUID(), two.repository, { dryRun: false, bytesPerSecond: 0 });
      await operation.done;
      expect(operation.failure).toBeUndefined();
    }
    for (const test of [one, two]) {
      await test.repository.acknowledge();
      expect((await test.read(kept)).equals(imageOf(keep))).toBe(true);
      expect(test.repository.index.packs.totalBytes).toBeLessThan(before / 4);
      expect(test.repository.points.ids()).toEqual([kept]);
    }
  }, 600_000);
}
