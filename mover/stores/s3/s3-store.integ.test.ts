/** Against Ceph's RADOS gateway, with conditional writes and with claims, and through a proxy that breaks requests. */
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { Secret } from '../../../common/log/redact';
import { CephGateway } from '../../testing/ceph-gateway';
import { describeStore } from '../../testing/store-suite';
import { temporaryFolder } from '../../testing/test-mover';
import { Bucket } from './bucket';
import { ClaimedWrites, ConditionalWrites, probeConditions } from './exclusive-writes';
import { parseS3Location } from './s3-location';
import { S3Store } from './s3-store';

describe('S3Store on a RADOS gateway', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let ceph: CephGateway;
  const access = () => ({ accessKeyId: ceph.access.accessKeyId, secretAccessKey: new Secret(ceph.access.secretAccessKey) });
  const location = (prefix: string = randomUUID()) => `s3:${ceph.access.endpoint}/backup/${prefix}`;

  beforeAll(async () => {
    scratch = temporaryFolder();
    ceph = await CephGateway.start(path.join(scratch.folder, 'ceph'));
    const { endpoint, region, accessKeyId, secretAccessKey } = ceph.access;
    const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
    await client.send(new CreateBucketCommand({ Bucket: 'backup' }));
    client.destroy();
  }, 120_000);
  afterAll(async () => {
    await ceph.stop();
    scratch[Symbol.dispose]();
  });

  describe('does what every store does', () => {
    describeStore(() => S3Store.open(location(), access()));
  });

  test('finds out that this server honours conditions, and claims do without them', async () => {
    const bucket = new Bucket(parseS3Location(location()), access());
    try {
      expect(await probeConditions(bucket, 'probe/')).toBe('bare');
      for (const writes of [new ConditionalWrites(bucket, 'bare'), new ClaimedWrites(bucket)]) {
        const key = randomUUID();
        const made = await Promise.all(Array.from({ length: 4 }, (_, i) => writes.create(key, Buffer.from(String(i)))));
        expect(made.filter(Boolean).length).toBeLessThanOrEqual(1);
        if (!made.includes(true)) expect(await writes.create(key, Buffer.from('late'))).toBe(true);
        const held = (await bucket.get(key, 100))?.content ?? Buffer.alloc(0);
        expect(await writes.swap(key, Buffer.from('other'), Buffer.from('x'))).toBe(false);
        expect(await writes.swap(key, held, Buffer.from('x'))).toBe(true);
        expect(await writes.swap(key, Buffer.from('x'), undefined)).toBe(true);
        expect(await bucket.get(key, 100)).toBeUndefined();
      }
      for await (const { key } of bucket.list('')) expect(key).not.toMatch(/claim|probe/);
    } finally {
      bucket.close();
    }
  });

  test('says what is wrong: key, bucket, server', async () => {
    const wrongKey = { ...access(), secretAccessKey: new Secret('wrong') };
    await expect(S3Store.open(location(), wrongKey)).rejects.toMatchObject({
      code: 'REPOSITORY_LOCATION_INVALID',
      meta: { field: 'access' },
    });
    const noBucket = location().replace('/backup/', '/nothing-here/');
    await expect(S3Store.open(noBucket, access())).rejects.toMatchObject({
      code: 'REPOSITORY_LOCATION_INVALID',
      message: expect.stringMatching(/no bucket "nothing-here"/) as unknown,
    });
  });

  test('goes on when the server was away for a moment', async () => {
    const store = await S3Store.open(location(), access());
    try {
      await store.put('a', Buffer.from('before'));
      await ceph.killGateway();
      const reading = store.readWhole('a', 100);
      await ceph.startGateway();
      expect((await reading).toString()).toBe('before');
      await store.put('a', Buffer.from('after'));
      expect((await store.readWhole('a', 100)).toString()).toBe('after');
    } finally {
      await store.close();
    }
  }, 60_000);
});
