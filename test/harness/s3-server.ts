import fs from 'node:fs';
import path from 'node:path';
import { eventually, startNode } from './child';
import type { Child } from './child';

const runCeph = path.resolve(__dirname, '..', '..', 'mover', 'testing', 'run-ceph-gateway.js');

interface Access {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** A real S3 server (Ceph's RADOS gateway) with a bucket, as a child process. */
export class BucketServer {
  private constructor(
    private readonly child: Child,
    readonly access: Access,
    /** Two lines, for `--access-key-file`. */
    readonly keyFile: string,
  ) {}

  /** In a folder that is made. */
  static async start(folder: string): Promise<BucketServer> {
    fs.mkdirSync(folder, { recursive: true });
    const ready = path.join(folder, 'ready.json');
    const child = startNode(runCeph, [path.join(folder, 'ceph'), ready], path.join(folder, 'ceph.log'));
    await eventually('the S3 server', 90_000, () => fs.existsSync(ready) || undefined);
    const access = JSON.parse(fs.readFileSync(ready, 'utf8')) as Access;
    const keyFile = path.join(folder, 'access-key');
    fs.writeFileSync(keyFile, `${access.accessKeyId}\n${access.secretAccessKey}\n`, { mode: 0o600 });
    return new BucketServer(child, access, keyFile);
  }

  location(prefix: string): string {
    return `s3:${this.access.endpoint}/backup/${prefix}?region=default`;
  }

  async stop(): Promise<void> {
    await this.child.stop();
  }
}
