import path from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { Secret } from '../../common/log/redact';
import type { S3Access } from '../stores/s3/bucket';
import { CephGateway } from './ceph-gateway';
import { temporaryFolder } from './test-mover';

/** A running RADOS gateway with a bucket called `backup`, and a folder for what belongs to it. */
export class CephBucket {
  private constructor(
    readonly ceph: CephGateway,
    private readonly scratch: ReturnType<typeof temporaryFolder>,
  ) {}

  static async start(): Promise<CephBucket> {
    const scratch = temporaryFolder();
    const ceph = await CephGateway.start(path.join(scratch.folder, 'ceph'));
    const { endpoint, region, accessKeyId, secretAccessKey } = ceph.access;
    const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
    await client.send(new CreateBucketCommand({ Bucket: 'backup' }));
    client.destroy();
    return new CephBucket(ceph, scratch);
  }

  get folder(): string {
    return this.scratch.folder;
  }

  get access(): S3Access {
    const { accessKeyId, secretAccessKey } = this.ceph.access;
    return { accessKeyId, secretAccessKey: new Secret(secretAccessKey) };
  }

  /** A place of its own in the bucket, through another endpoint when one is given. */
  location(prefix: string, endpoint = this.ceph.access.endpoint): string {
    return `s3:${endpoint}/backup/${prefix}`;
  }

  async stop(): Promise<void> {
    await this.ceph.stop();
    this.scratch[Symbol.dispose]();
  }
}
