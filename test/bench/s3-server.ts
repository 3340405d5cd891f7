/** A real S3 server (Ceph's RADOS gateway) for benchmarks: one per run, a prefix per tool and round. Its CPU and memory are not counted. */
import { DeleteObjectsCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3';
import { BucketServer } from '../harness/s3-server';

const bucket = 'backup';

export class S3Server {
  private prefixes = 0;

  private constructor(
    private readonly server: BucketServer,
    private readonly client: S3Client,
  ) {}

  static async start(folder: string): Promise<S3Server> {
    const server = await BucketServer.start(folder);
    const { endpoint, accessKeyId, secretAccessKey } = server.access;
    const client = new S3Client({ endpoint, region: 'default', forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
    return new S3Server(server, client);
  }

  get keys(): BucketServer['access'] {
    return this.server.access;
  }

  /** A place in the bucket that nobody used yet. */
  newPrefix(): string {
    this.prefixes += 1;
    return `bench-${this.prefixes}`;
  }

  /** As Tidemark names it. */
  location(prefix: string): string {
    return this.server.location(prefix);
  }

  /** As restic names it. */
  url(prefix: string): string {
    return `s3:${this.keys.endpoint}/${bucket}/${prefix}`;
  }

  async bytes(prefix: string): Promise<number> {
    let bytes = 0;
    for await (const { Contents = [] } of this.pages(prefix)) for (const { Size = 0 } of Contents) bytes += Size;
    return bytes;
  }

  async empty(prefix: string): Promise<void> {
    for await (const { Contents = [] } of this.pages(prefix)) {
      if (Contents.length === 0) continue;
      const Objects = Contents.map(({ Key }) => ({ Key }));
      await this.client.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects } }));
    }
  }

  async stop(): Promise<void> {
    this.client.destroy();
    await this.server.stop();
  }

  private pages(prefix: string) {
    return paginateListObjectsV2({ client: this.client }, { Bucket: bucket, Prefix: `${prefix}/` });
  }
}
