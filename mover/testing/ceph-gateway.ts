/**
 * A real S3 server that nobody here wrote: Ceph's RADOS gateway from Debian, over one monitor and one storage daemon that keeps everything in memory.
 * Up in about 15 s. Packages: ceph-mon, ceph-osd, radosgw, ceph-common.
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { request } from 'undici';
import { freePort } from '../../common/net/free-port';
import { until } from './server';

const run = promisify(execFile);

export interface S3Access {
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** The server's name for requests with the bucket in the host name. */
export const CEPH_DNS_NAME = 's3.test';

const keyWords = ({ accessKeyId, secretAccessKey }: Pick<S3Access, 'accessKeyId' | 'secretAccessKey'>): string[] => [
  ...['--access-key', accessKeyId],
  ...['--secret-key', secretAccessKey],
];

export class CephGateway {
  readonly access: S3Access;
  private readonly children = new Map<string, ChildProcess>();

  private constructor(
    private readonly folder: string,
    private readonly monitorPort: number,
    private readonly port: number,
  ) {
    this.access = {
      endpoint: `http://127.0.0.1:${port}`,
      region: 'default',
      accessKeyId: `ACCESS${randomUUID().slice(0, 8).toUpperCase()}`,
      secretAccessKey: randomUUID(),
    };
  }

  /** In a folder that is empty or missing. */
  static async start(folder: string): Promise<CephGateway> {
    const gateway = new CephGateway(folder, await freePort(), await freePort());
    try {
      await gateway.bootstrap();
      await gateway.startGateway();
    } catch (error) {
      await gateway.stop();
      throw error;
    }
    return gateway;
  }

  /** SIGKILL of the gateway; the storage goes on. */
  async killGateway(): Promise<void> {
    await this.end('radosgw');
  }

  async startGateway(): Promise<void> {
    this.spawn('radosgw', ['-f', '-n', 'client.rgw.a']);
    await until('radosgw', 240_000, async () => (await request(this.access.endpoint)).statusCode === 200);
  }

  /** A key more of the same user, a new one unless told; each opens the bucket. */
  async addKeyOfUser(key = { accessKeyId: `SECOND${randomUUID().slice(0, 8).toUpperCase()}`, secretAccessKey: randomUUID() as string }) {
    await this.admin('key', 'create', '--uid', 'backup', '--key-type', 's3', ...keyWords(key));
    return key;
  }

  /** The server refuses it from then on. */
  async removeKeyOfUser(accessKeyId: string): Promise<void> {
    await this.admin('key', 'rm', '--uid', 'backup', '--key-type', 's3', '--access-key', accessKeyId);
  }

  async stop(): Promise<void> {
    for (const name of ['radosgw', 'ceph-osd', 'ceph-mon']) await this.end(name);
  }

  private async bootstrap(): Promise<void> {
    const fsid = randomUUID();
    const at = (name: string) => path.join(this.folder, name);
    for (const name of ['mon', 'osd', 'rgw', 'run', 'log']) fs.mkdirSync(at(name), { recursive: true });
    fs.writeFileSync(
      at('ceph.conf'),
      [
        '[global]',
        `fsid = ${fsid}`,
        `mon host = [v2:127.0.0.1:${this.monitorPort}]`,
        'ms bind ipv6 = false',
        'public network = 127.0.0.0/8',
        'osd pool default size = 1',
        'osd pool default min size = 1',
        'osd pool default pg num = 8',
        'osd pool default pg autoscale mode = off',
        'osd crush chooseleaf type = 0',
        'mon allow pool size one = true',
        'mon max pg per osd = 1000',
        'osd objectstore = memstore',
        'memstore device bytes = 8G',
        `keyring = ${at('keyring')}`,
        `run dir = ${at('run')}`,
        `admin socket = ${at('run')}/$cluster-$name.asok`,
        `log file = ${at('log')}/$name.log`,
        'mon cluster log to file = false',
        '[mon]',
        `mon data = ${at('mon')}`,
        '[osd]',
        `osd data = ${at('osd')}`,
        '[client.rgw.a]',
        // Without this the gateway looks for a key in its data folder and waits for minutes.
        `keyring = ${at('keyring')}`,
        `rgw data = ${at('rgw')}`,
        // Buckets as names below this one, beside buckets as paths; and IPv6.
        `rgw dns name = ${CEPH_DNS_NAME}`,
        // Without tcp_nodelay the body of a small answer waits for the acknowledgement of its head: 40 ms each.
        `rgw frontends = beast endpoint=127.0.0.1:${this.port} endpoint=[::1]:${this.port} tcp_nodelay=1`,
        '',
      ].join('\n'),
    );
    await this.tool('ceph-authtool', ['--create-keyring', at('keyring'), '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *']);
    const admin = ['mon', 'osd', 'mgr'].flatMap((service) => ['--cap', service, 'allow *']);
    await this.tool('ceph-authtool', [at('keyring'), '--gen-key', '-n', 'client.admin', ...admin]);
    await this.tool('monmaptool', ['--create', '--addv', 'a', `[v2:127.0.0.1:${this.monitorPort}]`, '--fsid', fsid, at('monmap')]);
    await this.tool('ceph-mon', ['--mkfs', '-i', 'a', '--monmap', at('monmap'), '--keyring', at('keyring'), '-c', at('ceph.conf')]);
    this.spawn('ceph-mon', ['-f', '-i', 'a']);
    await until('ceph-mon', 120_000, async () => (await this.ceph('-s')) !== undefined);
    const osd = ['mon', 'allow profile osd', 'osd', 'allow *', 'mgr', 'allow profile osd'];
    await this.addKey('osd.0', osd);
    await this.addKey('client.rgw.a', ['mon', 'allow rw', 'osd', 'allow rwx']);
    const uuid = randomUUID();
    await this.ceph('osd', 'new', uuid, '0');
    const arguments_ = ['-i', '0', '-c', at('ceph.conf'), '--keyring', at('keyring')];
    await this.tool('ceph-osd', [...arguments_, '--mkfs', '--osd-uuid', uuid]);
    this.spawn('ceph-osd', ['-f', '-i', '0']);
    await until('ceph-osd', 120_000, async () => /1 osds: 1 up/.test((await this.ceph('osd', 'stat')) ?? ''));
    await this.admin('user', 'create', '--uid', 'backup', '--display-name', 'backup', ...keyWords(this.access));
  }

  private async admin(...words: string[]): Promise<void> {
    await this.tool('radosgw-admin', ['-c', path.join(this.folder, 'ceph.conf'), '-n', 'client.rgw.a', ...words]);
  }

  private async addKey(name: string, capabilities: readonly string[]): Promise<void> {
    const keyring = await this.ceph('auth', 'get-or-create', name, ...capabilities);
    fs.appendFileSync(path.join(this.folder, 'keyring'), `${keyring}\n`);
  }

  private async ceph(...words: string[]): Promise<string> {
    return await this.tool('ceph', ['-c', path.join(this.folder, 'ceph.conf'), '--connect-timeout', '60', ...words]);
  }

  private async tool(program: string, words: readonly string[]): Promise<string> {
    return (await run(program, [...words], { timeout: 180_000 })).stdout.trim();
  }

  private spawn(program: string, words: readonly string[]): void {
    const log = fs.openSync(path.join(this.folder, 'log', `${program}.out`), 'a');
    this.children.set(program, spawn(program, [...words, '-c', path.join(this.folder, 'ceph.conf')], { stdio: ['ignore', log, log] }));
    fs.closeSync(log);
  }

  private async end(program: string): Promise<void> {
    const child = this.children.get(program);
    this.children.delete(program);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}
