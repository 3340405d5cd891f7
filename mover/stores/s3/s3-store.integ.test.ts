/** Against Ceph's RADOS gateway, with conditional writes and with claims, and through a proxy that breaks requests. */
import { randomUUID } from 'node:crypto';
import type { LookupFunction } from 'node:net';
import { Secret } from '../../../common/log/redact';
import { CephBucket } from '../../testing/ceph-bucket';
import { CEPH_DNS_NAME } from '../../testing/ceph-gateway';
import { S3FaultProxy } from '../../testing/s3-fault-proxy';
import { describeS3Repository } from '../../testing/s3-repository-suite';
import { until } from '../../testing/server';
import { describeStore } from '../../testing/store-suite';
import { readDisk, sampleBlock } from '../../testing/test-disk';
import { temporaryFolder, TestMover } from '../../testing/test-mover';
import { alignedBuffer } from '../aligned-buffer';
import { STORE_PIECE_BYTES } from '../store';
import { Bucket } from './bucket';
import { ClaimedWrites, ConditionalWrites, probeConditions } from './exclusive-writes';
import { parseS3Location } from './s3-location';
import { S3Store } from './s3-store';

describe('S3Store on a RADOS gateway', () => {
  let bucket: CephBucket;
  const location = (prefix: string = randomUUID()) => bucket.location(prefix);
  beforeAll(async () => (bucket = await CephBucket.start()), 600_000);
  afterAll(() => bucket.stop());

  describe('does what every store does', () => {
    describeStore(() => S3Store.open(location(), bucket.access));
  });

  describe('holds a repository that', () => {
    describeS3Repository(() => bucket);
  });

  test('finds out that this server honours conditions, and claims do without them', async () => {
    const client = new Bucket(parseS3Location(location()), bucket.access);
    try {
      expect(await probeConditions(client, 'probe/')).toBe('bare');
      for (const writes of [new ConditionalWrites(client, 'bare'), new ClaimedWrites(client)]) {
        const key = randomUUID();
        const made = await Promise.all(Array.from({ length: 4 }, (_, i) => writes.create(key, Buffer.from(String(i)))));
        expect(made.filter(Boolean).length).toBeLessThanOrEqual(1);
        if (!made.includes(true)) expect(await writes.create(key, Buffer.from('late'))).toBe(true);
        const held = (await client.get(key, 100))?.content ?? Buffer.alloc(0);
        expect(await writes.swap(key, Buffer.from('other'), Buffer.from('x'))).toBe(false);
        expect(await writes.swap(key, held, Buffer.from('x'))).toBe(true);
        expect(await writes.swap(key, Buffer.from('x'), undefined)).toBe(true);
        expect(await client.get(key, 100)).toBeUndefined();
      }
      for await (const { key } of client.list('')) expect(key).not.toMatch(/claim|probe/);
    } finally {
      client.close();
    }
  });

  test('says what is wrong: key, bucket, server', async () => {
    const wrongKey = { ...bucket.access, secretAccessKey: new Secret('wrong') };
    await expect(S3Store.open(location(), wrongKey)).rejects.toMatchObject({
      code: 'REPOSITORY_LOCATION_INVALID',
      meta: { field: 'access' },
    });
    const noBucket = location().replace('/backup/', '/nothing-here/');
    await expect(S3Store.open(noBucket, bucket.access)).rejects.toMatchObject({
      code: 'REPOSITORY_LOCATION_INVALID',
      message: expect.stringMatching(/no bucket "nothing-here"/) as unknown,
    });
  });

  test('a mover goes over to another access key in the middle of a session, and refuses a wrong one', async () => {
    using folders = temporaryFolder();
    const { accessKeyId, secretAccessKey } = bucket.ceph.access;
    const place = location();
    const block = 65_536;
    const rawOf = (number: number) => sampleBlock(number + 1, block);
    const blocks = (from: number, to: number) => new Map(Array.from({ length: to - from }, (_, i) => [from + i, rawOf(from + i)]));
    let repositoryId = '';
    let pointId = '';
    const added = await bucket.ceph.addKeyOfUser();
    {
      await using mover = await TestMover.start(folders.folder);
      const create = {
        requestId: randomUUID(),
        location: place,
        access: { accessKeyId, secretAccessKey },
        settings: { blockSizeBytes: block },
      };
      repositoryId = (await mover.repositories.call('CreateRepository', create, { deadlineMs: 60_000 })).repository?.repositoryId ?? '';
      const sessionId = await mover.openSession(repositoryId, 'BACKUP');
      const lane = await mover.lane(sessionId, repositoryId);
      const { handle } = await lane.openDisk('one', 100 * block, '', '', 'content');
      await lane.send(handle, blocks(0, 50));
      const attach = (access: object) =>
        mover.repositories.call(
          'AttachRepository',
          { location: place, expectedRepositoryId: repositoryId, access },
          { deadlineMs: 60_000 },
        );
      await expect(attach({ ...added, secretAccessKey: 'planted-wrong' })).rejects.toMatchObject({ code: 'REPOSITORY_LOCATION_INVALID' });
      expect((await attach(added)).repository).toMatchObject({ openSessionCount: 1 });
      // From here on nothing gets through with the old one.
      await bucket.ceph.removeKeyOfUser(accessKeyId);
      await expect(S3Store.open(place, bucket.access)).rejects.toMatchObject({ code: 'REPOSITORY_LOCATION_INVALID' });
      await lane.send(handle, blocks(50, 100));
      expect((await lane.commitDisk(handle)).missing).toEqual([]);
      pointId = await mover.commit(sessionId, [{ diskId: 'one', sizeBytes: 100 * block }]);
      expect(JSON.stringify(mover.logged)).not.toMatch(new RegExp(`${added.secretAccessKey}|planted-wrong`));
    }
    // What it keeps is the new one.
    await using again = await TestMover.start(folders.folder);
    // A mover that starts does not wait for a storage that takes long.
    await until('the repository', 120_000, async () => {
      const { repository } = await again.repositories.call('GetRepository', { repositoryId }, { deadlineMs: 60_000 });
      return repository?.repositoryId === repositoryId;
    });
    const reader = await again.lane(await again.openSession(repositoryId, 'RESTORE', [pointId]), repositoryId, ['read'], [pointId]);
    expect((await readDisk(reader, pointId, 'one')).equals(Buffer.concat([...blocks(0, 100).values()]))).toBe(true);
    reader.close();
    await bucket.ceph.addKeyOfUser({ accessKeyId, secretAccessKey });
  }, 600_000);

  test('a request goes on when the server was away for a moment', async () => {
    const proxy = await S3FaultProxy.start(bucket.ceph.access.endpoint, 1);
    const store = await S3Store.open(bucket.location(randomUUID(), proxy.endpoint), bucket.access);
    proxy.kinds = ['cut before'];
    /** Does something while the server is away, until it was asked more than once. */
    const away = async <T>(work: () => Promise<T>): Promise<T> => {
      proxy.seen.length = 0;
      proxy.rate = 1;
      const working = work();
      while (proxy.seen.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
      proxy.rate = 0;
      return working;
    };
    try {
      await away(() => store.put('a', Buffer.from('told')));
      expect((await away(() => store.readWhole('a', 100))).toString()).toBe('told');
    } finally {
      await store.close();
      await proxy.stop();
    }
  }, 180_000);

  test('the same store goes on after the server was killed, however long it was away', async () => {
    const store = await S3Store.open(location(), bucket.access);
    try {
      await store.put('a', Buffer.from('before'));
      await bucket.ceph.killGateway();
      await expect(store.put('b', Buffer.from('lost'))).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
      await bucket.ceph.startGateway();
      expect((await store.readWhole('a', 100)).toString()).toBe('before');
      await store.put('a', Buffer.from('after'));
      expect((await store.readWhole('a', 100)).toString()).toBe('after');
    } finally {
      await store.close();
    }
  }, 600_000);

  describe('is reached', () => {
    const port = () => new URL(bucket.ceph.access.endpoint).port;

    test.each([
      ['with the bucket in the path', () => `s3:http://127.0.0.1:${port()}/backup/${randomUUID()}`],
      ['with the bucket in the host name', () => `s3:http://${CEPH_DNS_NAME}:${port()}/backup/${randomUUID()}?addressing=virtual`],
      ['over IPv6', () => `s3:http://[::1]:${port()}/backup/${randomUUID()}`],
    ])('%s', async (_, place) => {
      const asked: string[] = [];
      // A name server that knows one address.
      const lookup: LookupFunction = (hostname, options, answer) => {
        asked.push(hostname);
        if (options.all === true) answer(null, [{ address: '127.0.0.1', family: 4 }]);
        else answer(null, '127.0.0.1', 4);
      };
      const at = place();
      const store = await S3Store.open(at, bucket.access, { lookup });
      try {
        expect(store.location).toBe(at);
        const writer = await store.create('packs/aa/x');
        const piece = alignedBuffer(STORE_PIECE_BYTES).fill(7);
        for (let i = 0; i < 3; i++) await writer.append(piece);
        await writer.finish(piece, 5);
        expect(await store.sizeOf('packs/aa/x')).toBe(3 * STORE_PIECE_BYTES + 5);
        expect(await store.putNew('lock', Buffer.from('a'))).toBe(true);
        const listed: string[] = [];
        for await (const name of store.list('')) listed.push(name);
        expect(listed.sort()).toEqual(['lock', 'packs/aa/x']);
        expect(new Set(asked)).toEqual(new Set(at.includes('virtual') ? [`backup.${CEPH_DNS_NAME}`] : []));
      } finally {
        await store.close();
      }
    });
  });

  test('an upload that another mover is in the middle of is left alone; one from long ago is aborted', async () => {
    const at = location();
    const piece = alignedBuffer(STORE_PIECE_BYTES).fill(7);
    const running = await S3Store.open(at, bucket.access);
    const writer = await running.create('packs/aa/x');
    for (let i = 0; i < 4; i++) await writer.append(piece);
    const restarted = await S3Store.open(at, bucket.access);
    await restarted.removeLeftovers();
    await writer.finish(piece, 9);
    expect(await restarted.sizeOf('packs/aa/x')).toBe(4 * STORE_PIECE_BYTES + 9);

    const abandoned = await running.create('packs/aa/y');
    for (let i = 0; i < 4; i++) await abandoned.append(piece);
    const client = new Bucket(parseS3Location(at), bucket.access);
    const uploads = async () => {
      const found: string[] = [];
      for await (const { key } of client.openUploads('')) if (at.endsWith(key.split('/')[0] as string)) found.push(key);
      return found;
    };
    while ((await uploads()).length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    const later = await S3Store.open(at, bucket.access, { deadUploadMs: -60_000 });
    await later.removeLeftovers();
    expect(await uploads()).toEqual([]);
    await abandoned.abandon();
    client.close();
    for (const store of [running, restarted, later]) await store.close();
  }, 180_000);
});
