/**
 * Another real S3 server: OpenStack Swift from Debian with its s3api, on one device, a folder. It refuses conditional writes (501) and cannot copy or lock,
 * which is why it is here. Up in some seconds. Packages: swift-proxy, swift-account, swift-container, swift-object, memcached.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { request } from 'undici';
import { freePort } from '../../common/net/free-port';
import { Secret } from '../../common/log/redact';
import type { S3Access } from '../stores/s3/bucket';
import { until } from './server';
import { temporaryFolder } from './test-mover';

const run = promisify(execFile);
/** Debian's own, which has Swift's modules. */
const python = '/usr/bin/python3';
const kinds = ['account', 'container', 'object'] as const;
const accessKeyId = 'test:tester';
const secretAccessKey = 'testing';

export class SwiftServer {
  private readonly scratch = temporaryFolder();
  private readonly children: ChildProcess[] = [];

  private constructor(private readonly port: number) {}

  /** With a bucket called `backup`. */
  static async start(): Promise<SwiftServer> {
    const server = new SwiftServer(await freePort());
    try {
      await server.bootstrap();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  get folder(): string {
    return this.scratch.folder;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get access(): S3Access {
    return { accessKeyId, secretAccessKey: new Secret(secretAccessKey) };
  }

  location(prefix: string): string {
    return `s3:${this.endpoint}/backup/${prefix}`;
  }

  async stop(): Promise<void> {
    for (const child of this.children.splice(0)) {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    this.scratch[Symbol.dispose]();
  }

  private async bootstrap(): Promise<void> {
    const at = (...names: string[]) => path.join(this.folder, ...names);
    for (const name of ['etc', 'device/d', 'run']) fs.mkdirSync(at(name), { recursive: true });
    const write = (name: string, sections: Record<string, Record<string, string | number>>) => {
      const text = Object.entries(sections).map(([section, values]) => {
        const lines = Object.entries(values).map(([key, value]) => `${key} = ${value}\n`);
        return `[${section}]\n${lines.join('')}`;
      });
      fs.writeFileSync(at('etc', name), text.join(''));
    };
    write('swift.conf', {
      'swift-hash': { swift_hash_path_suffix: 'tests', swift_hash_path_prefix: 'tests' },
      'storage-policy:0': { name: 'only', default: 'yes' },
    });
    const common = { bind_ip: '127.0.0.1', workers: 0, user: 'root', swift_dir: at('etc'), log_address: at('run', 'no-syslog') };
    for (const kind of kinds) {
      const port = await freePort();
      const ring = async (...words: string[]) => run('swift-ring-builder', [at('etc', `${kind}.builder`), ...words]);
      await ring('create', '4', '1', '0');
      await ring(...['add', '--region', '1', '--zone', '1', '--ip', '127.0.0.1', '--port', String(port), '--device', 'd', '--weight', '1']);
      await ring('rebalance');
      write(`${kind}.conf`, {
        DEFAULT: { ...common, bind_port: port, devices: at('device'), mount_check: 'false' },
        'pipeline:main': { pipeline: `${kind}-server` },
        [`app:${kind}-server`]: { use: `egg:swift#${kind}` },
      });
    }
    const cachePort = await freePort();
    const pipeline = 'catch_errors proxy-logging cache bulk s3api tempauth slo dlo versioned_writes symlink proxy-logging proxy-server';
    const filter = (name: string, more = {}) => ({ [`filter:${name}`]: { use: `egg:swift#${name.replace('proxy-', 'proxy_')}`, ...more } });
    write('proxy.conf', {
      DEFAULT: { ...common, bind_port: this.port },
      'pipeline:main': { pipeline },
      'app:proxy-server': { use: 'egg:swift#proxy', account_autocreate: 'true', allow_account_management: 'true' },
      'filter:cache': { use: 'egg:swift#memcache', memcache_servers: `127.0.0.1:${cachePort}` },
      ...filter('tempauth', { user_test_tester: `${secretAccessKey} .admin` }),
      ...filter('versioned_writes', { allow_versioned_writes: 'true', allow_object_versioning: 'true' }),
      ...Object.assign({}, ...['catch_errors', 'proxy-logging', 'bulk', 's3api', 'slo', 'dlo', 'symlink'].map((name) => filter(name))),
    });
    this.spawn('memcached', ['-u', 'root', '-l', '127.0.0.1', '-p', String(cachePort), '-m', '16']);
    for (const kind of [...kinds, 'proxy']) this.spawn(python, [`/usr/bin/swift-${kind}-server`, at('etc', `${kind}.conf`)]);
    const client = new S3Client({
      endpoint: this.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      maxAttempts: 1,
      credentials: { accessKeyId, secretAccessKey },
    });
    await until('swift', 180_000, async () => (await request(this.endpoint)).statusCode > 0);
    await until('swift’s storage', 180_000, async () => {
      await client.send(new CreateBucketCommand({ Bucket: 'backup' }));
      return true;
    });
    client.destroy();
  }

  private spawn(program: string, words: readonly string[]): void {
    const log = fs.openSync(path.join(this.folder, 'run', 'log'), 'a');
    this.children.push(spawn(program, [...words], { stdio: ['ignore', log, log] }));
    fs.closeSync(log);
  }
}
