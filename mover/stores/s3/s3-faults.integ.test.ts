/** Backups and restores to Ceph through a proxy that breaks requests, and over a gateway that is killed. Each seed is in the test's name. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { Verifier } from '../../maintenance/verifier';
import { CephBucket } from '../../testing/ceph-bucket';
import { faultKinds, S3FaultProxy, type FaultKind } from '../../testing/s3-fault-proxy';
import { randomFrom, sampleBlock } from '../../testing/test-disk';
import { TestRepository, testKey } from '../../testing/test-repository';
import type { S3Tuning } from './s3-client';
import { S3Store } from './s3-store';

const blockBytes = 65_536;
const blocks = 40;
const sizeBytes = blocks * blockBytes;

describe('an S3 server behind a bad network', () => {
  let bucket: CephBucket;
  beforeAll(async () => (bucket = await CephBucket.start()), 600_000);
  afterAll(() => bucket.stop());

  /** Impatient only where a fault is to be given up soon: a machine that stalls has requests repeated that nobody broke. */
  const open = async (prefix: string, life: number, endpoint?: string, tuning: S3Tuning = {}) => {
    const store = await S3Store.open(bucket.location(prefix, endpoint), bucket.access, tuning);
    const folder = path.join(bucket.folder, `${prefix}-${life}`);
    fs.mkdirSync(folder, { recursive: true });
    return TestRepository.open(folder, {
      store,
      key: testKey,
      packTargetBytes: 300_000,
      // Longer than any outage here: who lost its lease has to open the repository again, which is not what is looked at.
      lock: { instanceId: `life-${life}`, leaseDurationMs: 600_000, waitMs: 2_000 },
    });
  };
  const verified = async (test: TestRepository) => {
    const verifier = new Verifier(test.repository, new AbortController().signal);
    await verifier.run(undefined);
    return verifier.findings;
  };
  const names = async (test: TestRepository, prefix: string) => {
    const found: string[] = [];
    for await (const name of test.repository.store.list(prefix)) found.push(name);
    return found;
  };

  /** Random backups, each based on the last one that was made, for as long as `goOn` says. What failed must have said so. */
  async function backUp(test: TestRepository, random: () => number, told: Map<string, Buffer>, goOn: (round: number) => boolean) {
    for (let round = 0; goOn(round); round++) {
      const [base = '', image] = [...told].at(-1) ?? [];
      const content = image ? Buffer.from(image) : Buffer.alloc(sizeBytes);
      const changes = new Map<number, Buffer>();
      for (let i = 0; i < 12; i++) {
        const block = Math.floor(random() * blocks);
        const raw = sampleBlock(Math.floor(random() * 1e6), blockBytes);
        changes.set(block, raw);
        raw.copy(content, block * blockBytes);
      }
      try {
        told.set(await test.backup(sizeBytes, changes, base, randomUUID()), content);
      } catch (error) {
        if (!isTidemarkError(error)) throw error;
        expect(['REPOSITORY_IO', 'OBJECT_DAMAGED', 'SESSION_ENDED']).toContain(error.code);
      }
    }
  }

  /** Backs up through the proxy and restores without it. What was told is there, nothing else is half there. */
  async function bearing(kind: FaultKind | 'all', seed: number): Promise<void> {
    const proxy = await S3FaultProxy.start(bucket.ceph.access.endpoint, seed);
    const prefix = randomUUID();
    const random = randomFrom(seed);
    const told = new Map<string, Buffer>();
    try {
      {
        await using test = await open(prefix, 1, proxy.endpoint, { idleTimeoutMs: 1_000 });
        proxy.kinds = kind === 'all' ? faultKinds : [kind];
        proxy.rate = kind === 'silence' ? 0.03 : 0.1;
        await backUp(test, random, told, (round) => round < 3);
        // A restore through it ends with the right bytes or says why not.
        for (const [id, image] of told) {
          const restored = await test.read(id).catch((error: unknown) => error);
          if (Buffer.isBuffer(restored)) expect(restored.equals(image)).toBe(true);
          else expect(isTidemarkError(restored)).toBe(true);
        }
        expect(proxy.seen.some(({ fault }) => fault !== undefined)).toBe(true);
        proxy.rate = 0;
      }
      // With these few faults the retries have to be enough for some.
      expect(told.size).toBeGreaterThan(0);
      await using again = await open(prefix, 2);
      for (const [id, image] of told) expect((await again.read(id)).equals(image)).toBe(true);
      expect(await verified(again)).toEqual([]);
      // Nothing twice: one manifest for each point.
      const manifests = await names(again, 'points/');
      expect(new Set(manifests.map((name) => name.slice(-45))).size).toBe(manifests.length);
      for (const id of told.keys()) expect(manifests.filter((name) => name.includes(id))).toHaveLength(1);
      expect(again.repository.index.damagedPacks.size).toBe(0);
      const more = await again.backup(sizeBytes, new Map([[1, sampleBlock(seed, blockBytes)]]));
      expect((await again.read(more)).subarray(blockBytes, 2 * blockBytes).equals(sampleBlock(seed, blockBytes))).toBe(true);
    } catch (cause) {
      throw new Error(`${kind}, seed ${seed}`, { cause });
    } finally {
      await proxy.stop();
    }
  }

  test.each([20261121, 20261122])(
    'each kind of fault is borne (seed %i)',
    async (seed) => {
      // Beside each other: most of the time they wait for the next attempt.
      await Promise.all([...faultKinds, 'all' as const].map((kind, i) => bearing(kind, seed * 100 + i)));
    },
    600_000,
  );

  test('one of several wins, whatever answers get lost', async () => {
    const proxy = await S3FaultProxy.start(bucket.ceph.access.endpoint, 7);
    const prefix = randomUUID();
    try {
      const stores = await Promise.all([1, 2, 3].map(() => S3Store.open(bucket.location(prefix, proxy.endpoint), bucket.access)));
      proxy.kinds = ['cut after'];
      proxy.rate = 0.3;
      for (let round = 0; round < 8; round++) {
        const name = `locks/${round}`;
        const made = await Promise.all(stores.map((store, i) => store.putNew(name, Buffer.from(`${i}`))));
        // The winner knows that it won, though it heard it only in a repeated request.
        expect(made.filter(Boolean)).toHaveLength(1);
        const held = await (stores[0] as S3Store).readWhole(name, 9);
        expect(held.toString()).toBe(String(made.indexOf(true)));
        const swapped = await Promise.all(stores.map((store, i) => store.swap(name, held, Buffer.from(`next ${i}`))));
        expect(swapped.filter(Boolean)).toHaveLength(1);
        expect((await (stores[0] as S3Store).readWhole(name, 9)).toString()).toBe(`next ${swapped.indexOf(true)}`);
      }
      expect(proxy.seen.filter(({ fault, method }) => fault && method === 'PUT').length).toBeGreaterThan(0);
      for (const store of stores) await store.close();
    } finally {
      await proxy.stop();
    }
  }, 600_000);

  test('a server that refuses everything for a moment is asked again, ever more seldom', async () => {
    const proxy = await S3FaultProxy.start(bucket.ceph.access.endpoint, 8);
    const store = await S3Store.open(bucket.location(randomUUID(), proxy.endpoint), bucket.access);
    try {
      await store.put('a', Buffer.from('x'));
      proxy.kinds = ['slow down'];
      proxy.rate = 1;
      proxy.seen.length = 0;
      const reading = store.readWhole('a', 9);
      await expect(reading).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
      expect(proxy.seen).toHaveLength(6);
      proxy.rate = 0;
      expect((await store.readWhole('a', 9)).toString()).toBe('x');
    } finally {
      await store.close();
      await proxy.stop();
    }
  }, 600_000);

  test('nothing lists while blocks are backed up and restored; the cache can be thrown away', async () => {
    const proxy = await S3FaultProxy.start(bucket.ceph.access.endpoint, 9);
    const prefix = randomUUID();
    try {
      let point: string;
      const image = Buffer.concat(Array.from({ length: blocks }, (_, i) => sampleBlock(i + 1, blockBytes)));
      {
        await using test = await open(prefix, 1, proxy.endpoint);
        proxy.seen.length = 0;
        const changes = new Map(Array.from({ length: blocks }, (_, i) => [i, image.subarray(i * blockBytes, (i + 1) * blockBytes)]));
        point = await test.backup(sizeBytes, changes);
        const next = await test.backup(sizeBytes, new Map([[3, sampleBlock(99, blockBytes)]]), point);
        expect((await test.read(point)).equals(image)).toBe(true);
        await test.read(next);
        expect(proxy.seen.length).toBeGreaterThan(20);
        // Who else writes there is asked once when a session opens.
        const lists = proxy.seen.filter(({ what, method }) => what === 'list' || (what === 'uploads' && method === 'GET'));
        expect(lists.filter(({ path: asked }) => !asked.endsWith(`${prefix}%2Fwriters%2F`))).toEqual([]);
        expect(lists.length).toBeLessThanOrEqual(2);
      }
      fs.rmSync(path.join(bucket.folder, `${prefix}-1`), { recursive: true });
      await using again = await open(prefix, 1, proxy.endpoint);
      expect((await again.read(point)).equals(image)).toBe(true);
      const packs = (await names(again, 'packs/')).length;
      // All of it is known again: nothing of the same disk is stored a second time but its record.
      await again.backup(sizeBytes, new Map([[0, image.subarray(0, blockBytes)]]));
      expect((await names(again, 'packs/')).length).toBeLessThanOrEqual(packs + 1);
    } finally {
      await proxy.stop();
    }
  }, 600_000);

  test.each([1, 2, 3])(
    'a gateway that is killed with -9 in the middle loses nothing (seed %i)',
    async (seed) => {
      const prefix = randomUUID();
      const random = randomFrom(seed);
      const told = new Map<string, Buffer>();
      {
        await using test = await open(prefix, 1);
        // However long the gateway is away, backups fail and are tried again, and the same repository makes one once it is back.
        let toldBefore = Infinity;
        const working = backUp(test, random, told, (round) => round < 6 || told.size <= toldBefore);
        await new Promise((resolve) => setTimeout(resolve, 20 + random() * 400));
        await bucket.ceph.killGateway();
        await bucket.ceph.startGateway();
        toldBefore = told.size;
        await working;
        // And under a verification, which goes on too.
        const verifying = verified(test);
        await new Promise((resolve) => setTimeout(resolve, random() * 50));
        await bucket.ceph.killGateway();
        await bucket.ceph.startGateway();
        const findings = await verifying.catch((error: unknown) => error);
        if (Array.isArray(findings)) expect(findings).toEqual([]);
        else expect(isTidemarkError(findings)).toBe(true);
      }
      await using again = await open(prefix, 2);
      for (const [id, image] of told) expect((await again.read(id)).equals(image)).toBe(true);
      expect(await verified(again)).toEqual([]);
    },
    600_000,
  );
});
