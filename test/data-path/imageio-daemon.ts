/** The real oVirt image service over real qemu-nbd exports, without a lab around it. */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { freePort } from '../../common/net/free-port';
import { packageRoot } from '../../common/lifecycle/process-info';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { eventually } from '../harness/child';

export interface ServedImage {
  readonly url: string;
  /** Removes the ticket and ends the export. */
  stop(): Promise<void>;
}

export class ImageioDaemon {
  private readonly exports = new Set<ChildProcess>();

  private constructor(
    private readonly folder: string,
    private readonly daemon: ChildProcess,
    private readonly port: number,
    readonly caPem: string,
  ) {}

  /** Pids whose time counts as the service's. */
  get pids(): number[] {
    return [this.daemon, ...this.exports].map((child) => child.pid as number);
  }

  static async start(folder: string): Promise<ImageioDaemon> {
    fs.mkdirSync(path.join(folder, 'conf.d'), { recursive: true });
    const authority = await createAuthority('engine');
    const identity = await issueIdentity(authority, { role: 'host', id: 'host' }, ['127.0.0.1']);
    const file = (name: string) => path.join(folder, name);
    fs.writeFileSync(file('key.pem'), identity.privateKeyPem, { mode: 0o600 });
    fs.writeFileSync(file('cert.pem'), identity.certificateChainPem);
    fs.writeFileSync(file('ca.pem'), authority.certificatePem);
    const port = await freePort();
    fs.writeFileSync(
      file('conf.d/50-test.conf'),
      `[daemon]
systemd_enable = false
drop_privileges = false
run_dir = ${folder}
[tls]
key_file = ${file('key.pem')}
cert_file = ${file('cert.pem')}
ca_file = ${file('ca.pem')}
[remote]
host = 127.0.0.1
port = ${port}
[local]
enable = false
[control]
transport = unix
socket = ${file('control.sock')}
remove_timeout = 10
[logger_root]
level = WARNING
handlers = stderr
propagate = 0
[handlers]
keys = stderr
`,
    );
    const venv = path.join(packageRoot, '.venv', 'bin');
    const log = fs.openSync(file('daemon.log'), 'a');
    const child = spawn(path.join(venv, 'python'), [path.join(venv, 'ovirt-imageio'), '-c', folder], { stdio: ['ignore', log, log] });
    fs.closeSync(log);
    const daemon = new ImageioDaemon(folder, child, port, authority.certificatePem);
    await eventually('the image service', 120_000, async () => (await daemon.control('GET', '/tickets/none')) === 404 || undefined, 30);
    return daemon;
  }

  /** Serves a file as a disk: through an NBD export, as oVirt does for backups and uploads. */
  async serve(
    image: string,
    options: { format: 'raw' | 'qcow2'; write: boolean; sizeBytes: number; bitmap?: string },
  ): Promise<ServedImage> {
    const socket = path.join(this.folder, `nbd-${randomUUID().slice(0, 8)}.sock`);
    const args = [
      '--persistent',
      '--shared=8',
      '--export-name=',
      `--socket=${socket}`,
      '-f',
      options.format,
      '--cache=none',
      '--aio=native',
    ];
    if (!options.write) args.push('--read-only');
    if (options.format === 'qcow2') args.push('--allocation-depth');
    if (options.bitmap !== undefined) args.push(`--bitmap=${options.bitmap}`);
    if (options.write) args.push('--discard=unmap', '--detect-zeroes=unmap');
    const nbd = spawn('qemu-nbd', [...args, image], { stdio: 'ignore' });
    this.exports.add(nbd);
    await eventually('the NBD export', 120_000, () => fs.existsSync(socket) || undefined, 10);
    const uuid = randomUUID();
    const status = await this.control('PUT', `/tickets/${uuid}`, {
      uuid,
      size: options.sizeBytes,
      url: `nbd:unix:${socket}`,
      timeout: 300,
      ops: options.write ? ['read', 'write'] : ['read'],
      sparse: true,
      dirty: options.bitmap !== undefined,
    });
    if (status !== 200) throw new Error(`ticket refused with ${status}`);
    return {
      url: `https://127.0.0.1:${this.port}/images/${uuid}`,
      stop: async () => {
        await this.control('DELETE', `/tickets/${uuid}`);
        await this.end(nbd);
      },
    };
  }

  async stop(): Promise<void> {
    await Promise.all([...this.exports].map((child) => this.end(child)));
    await this.end(this.daemon);
  }

  /** As a host that crashes. */
  async kill(): Promise<void> {
    this.daemon.kill('SIGKILL');
    await this.end(this.daemon);
  }

  private async end(child: ChildProcess): Promise<void> {
    this.exports.delete(child);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), 5_000);
    await ended;
    clearTimeout(timer);
  }

  private control(method: string, target: string, body?: object): Promise<number> {
    return new Promise((resolve, reject) => {
      const request = http.request(
        { socketPath: path.join(this.folder, 'control.sock'), method, path: target, timeout: 20_000 },
        (answer) => {
          answer.resume();
          answer.once('end', () => resolve(answer.statusCode ?? 0));
        },
      );
      request.once('error', reject);
      request.once('timeout', () => request.destroy(new Error('the image service is silent')));
      request.end(body ? JSON.stringify(body) : undefined);
    });
  }
}

/** True when the set-up of the lab is there; tests that need it say so when it is not. */
export function qemuImg(...args: string[]): string {
  return execFileSync('qemu-img', args, { encoding: 'utf8' });
}
