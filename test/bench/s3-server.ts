/** A real S3 server (Ceph's RADOS gateway) for benchmarks: one per run, a prefix per tool and round. Its CPU and memory are not counted. */
import fs from 'node:fs';
import path from 'node:path';
import { DeleteObjectsCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3';
import { eventually, startNode } from '../harness/child';
import type { Child } from '../harness/child';

const runCeph = path.resolve(__dirname, '..', '..', 'mover', 'testing', 'run-ceph-gateway.js');
const bucket = 'backup';

export interface S3Keys {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export class S3Server {
  private prefixes = 0;

  private constructor(
    private readonly server: Child,
    readonly keys: S3Keys,
    private readonly client: S3Client,
  ) {}

  static async start(folder: string): Promise<S3Server> {
    fs.mkdirSync(folder, { recursive: true });
    const ready = path.join(folder, 'ready.json');
    const server = startNode(runCeph, [path.join(folder, 'ceph'), ready], path.join(folder, 'ceph.log'));
    await eventually('the S3 server', 90_000, () => fs.existsSync(ready) || undefined);
    const keys = JSON.parse(fs.readFileSync(ready, 'utf8')) as S3Keys;
    const { endpoint, accessKeyId, secretAccessKey } = keys;
    const client = new S3Client({ endpoint, region: 'default', forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
    return new S3Server(server, keys, client);
  }

  /** A place in the bucket that nobody used yet. */
  newPrefix(): string {
    this.prefixes += 1;
    return `bench-${this.prefixes}`;
  }

  /** As Tidemark names it. */
  location(prefix: string): string {
    return `s3:${this.keys.endpoint}/${bucket}/${prefix}?region=default`;
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
