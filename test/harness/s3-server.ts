import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { ListMultipartUploadsCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3';
import { eventually, startNode } from './child';
import type { Child } from './child';

const run = promisify(execFile);
const runCeph = path.resolve(__dirname, '..', '..', 'mover', 'testing', 'run-ceph-gateway.js');

interface Access {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** How often it was started, by now. */
  readonly starts: number;
}

/** Throws while it does not run. */
function read(readyFile: string): Access {
  return JSON.parse(fs.readFileSync(readyFile, 'utf8')) as Access;
}

/** A real S3 server (Ceph's RADOS gateway) with a bucket, as a child process. */
export class BucketServer {
  private constructor(
    private readonly child: Child,
    private readonly readyFile: string,
    readonly access: Access,
    /** Two lines, for `--access-key-file`. */
    readonly keyFile: string,
  ) {}

  /** In a folder that is made. */
  static async start(folder: string): Promise<BucketServer> {
    fs.mkdirSync(folder, { recursive: true });
    const ready = path.join(folder, 'ready.json');
    const child = startNode(runCeph, [path.join(folder, 'ceph'), ready], path.join(folder, 'ceph.log'));
    const access = await eventually('the S3 server', 300_000, () => read(ready));
    const keyFile = path.join(folder, 'access-key');
    fs.writeFileSync(keyFile, `${access.accessKeyId}\n${access.secretAccessKey}\n`, { mode: 0o600 });
    return new BucketServer(child, ready, access, keyFile);
  }

  location(prefix: string): string {
    return `s3:${this.access.endpoint}/backup/${prefix}?region=default`;
  }

  /** SIGKILL of the S3 server in the middle of whatever it does, and its start over the same storage; resolves when it answers again. */
  async dieAndComeBack(): Promise<void> {
    const { starts } = read(this.readyFile);
    process.kill(this.child.pid, 'SIGUSR2');
    await eventually('the S3 server', 300_000, () => read(this.readyFile).starts > starts || undefined, 50);
  }

  /** Names and sizes of all objects below a prefix, and how many uploads there are that were not finished. */
  async look(prefix: string): Promise<{ sizes: Map<string, number>; uploads: number }> {
    const { endpoint, accessKeyId, secretAccessKey } = this.access;
    const client = new S3Client({ endpoint, region: 'default', forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
    const sizes = new Map<string, number>();
    for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket: 'backup', Prefix: `${prefix}/` }))
      for (const { Key = '', Size = 0 } of Contents) sizes.set(Key.slice(prefix.length + 1), Size);
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: 'backup', Prefix: `${prefix}/` }));
    client.destroy();
    return { sizes, uploads: Uploads.length };
  }

  /** Another key of the same user; its file, as {@link keyFile}. */
  async addKey(): Promise<string> {
    const [accessKeyId, secretAccessKey] = [`SECOND${randomUUID().slice(0, 8).toUpperCase()}`, randomUUID()];
    await this.#admin('key', 'create', '--access-key', accessKeyId, '--secret-key', secretAccessKey);
    const file = path.join(path.dirname(this.readyFile), `access-key-${accessKeyId}`);
    fs.writeFileSync(file, `${accessKeyId}\n${secretAccessKey}\n`, { mode: 0o600 });
    return file;
  }

  /** The server refuses the first key from then on. */
  async removeFirstKey(): Promise<void> {
    await this.#admin('key', 'rm', '--access-key', this.access.accessKeyId);
  }

  async #admin(...words: string[]): Promise<void> {
    const config = path.join(path.dirname(this.readyFile), 'ceph', 'ceph.conf');
    await run('radosgw-admin', ['-c', config, '-n', 'client.rgw.a', ...words, '--uid', 'backup', '--key-type', 's3']);
  }

  async stop(): Promise<void> {
    await this.child.stop();
  }
}
