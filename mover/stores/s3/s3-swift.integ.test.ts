/** Against OpenStack Swift, which has no conditional writes: what Ceph does with them, claims do here. */
import { randomUUID } from 'node:crypto';
import { describeS3Repository } from '../../testing/s3-repository-suite';
import { describeStore } from '../../testing/store-suite';
import { SwiftServer } from '../../testing/swift-server';
import { Bucket } from './bucket';
import { probeConditions } from './exclusive-writes';
import { parseS3Location } from './s3-location';
import { S3Store } from './s3-store';

describe('S3Store on Swift', () => {
  let swift: SwiftServer;
  beforeAll(async () => (swift = await SwiftServer.start()), 600_000);
  afterAll(() => swift.stop());

  describe('does what every store does', () => {
    describeStore(() => S3Store.open(swift.location(randomUUID()), swift.access));
  });

  describe('holds a repository that', () => {
    describeS3Repository(() => swift);
  });

  test('is found out to have no conditions', async () => {
    const bucket = new Bucket(parseS3Location(swift.location('probe')), swift.access);
    expect(await probeConditions(bucket, 'probe/')).toBeUndefined();
    bucket.close();
  });
});
