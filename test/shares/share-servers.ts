/** Real servers of shares, private to a test: NFS-Ganesha and Samba on ports of 127.0.0.1, as children that can be killed and started again. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { freePort } from '../../common/net/free-port';
import { childrenOf, eventually, startProgram } from '../harness/child';
import type { Child } from '../harness/child';
import { hostAddress } from './gateway-machine';

/** Name of the share → folder of this machine. */
export type Shares = Readonly<Record<string, string>>;

export abstract class ShareServer {
  private child: Child | undefined;

  protected constructor(
    protected readonly folder: string,
    protected readonly shares: Shares,
    readonly port: number,
    private readonly command: readonly [string, ...string[]],
  ) {}

  /** What `repository add --location` takes, for the guest. */
  abstract location(share: string): string;

  /** The folder of a share. */
  at(share: string): string {
    return this.shares[share] ?? '';
  }

  async start(): Promise<void> {
    const [program, ...args] = this.command;
    this.child = startProgram(program, args, path.join(this.folder, 'output.log'));
    await eventually(`port ${this.port}`, 120_000, () => accepts(this.port));
  }

  /** SIGSTOP: its connections stay, and nothing comes from it any more. Until it is killed. */
  freeze(): void {
    if (this.child) signal([this.child.pid, ...childrenOf(this.child.pid, '')], 'SIGSTOP');
  }

  /** SIGKILL, with what it started. */
  async kill(): Promise<void> {
    const { child } = this;
    if (!child) return;
    this.child = undefined;
    const below = childrenOf(child.pid, '');
    await child.kill();
    signal(below, 'SIGKILL');
    await eventually('the end of the server', 120_000, async () => !(await accepts(this.port)));
  }
}

/** NFS 4 alone, which needs no portmapper. After a start it gives clients a grace time to claim their files, as every NFS server does: 5 s instead of 90. */
export class NfsServer extends ShareServer {
  static async make(folder: string, shares: Shares): Promise<NfsServer> {
    fs.mkdirSync(path.join(folder, 'recovery'), { recursive: true });
    const port = await freePort();
    const exports = Object.entries(shares).map(
      ([name, share], index) =>
        `EXPORT { Export_Id = ${index + 1}; Path = ${share}; Pseudo = /${name}; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; FSAL { Name = VFS; } }`,
    );
    const config = path.join(folder, 'ganesha.conf');
    fs.writeFileSync(
      config,
      [
        `NFS_CORE_PARAM { Protocols = 4; Bind_addr = 127.0.0.1; NFS_Port = ${port}; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }`,
        `NFSv4 { Grace_Period = 5; Lease_Lifetime = 5; RecoveryBackend = fs; RecoveryRoot = ${folder}/recovery; Only_Numeric_Owners = true; }`,
        ...exports,
        '',
      ].join('\n'),
    );
    const place = ['-L', path.join(folder, 'ganesha.log'), '-p', path.join(folder, 'ganesha.pid')];
    return new NfsServer(folder, shares, port, ['ganesha.nfsd', '-F', '-f', config, ...place]);
  }

  location(share: string): string {
    return `nfs:${hostAddress}:/${share}?version=4.1&port=${this.port}`;
  }
}

/** SMB 3 for one user with a password. */
export class SmbServer extends ShareServer {
  static readonly user = 'root';
  static readonly password = 'planted, "password" of the share';

  static async make(folder: string, shares: Shares): Promise<SmbServer> {
    fs.mkdirSync(folder, { recursive: true });
    const port = await freePort();
    const config = path.join(folder, 'smb.conf');
    const own = ['private dir', 'lock directory', 'state directory', 'cache directory', 'pid directory'].map(
      (name) => `${name} = ${folder}`,
    );
    fs.writeFileSync(
      config,
      [
        ...['[global]', 'server role = standalone server', 'disable netbios = yes', 'load printers = no', 'server min protocol = SMB3'],
        ...[`smb ports = ${port}`, 'interfaces = 127.0.0.1', 'bind interfaces only = yes', ...own, `ncalrpc dir = ${folder}/ncalrpc`],
        ...[`log file = ${folder}/smbd.log`, `passdb backend = smbpasswd:${folder}/smbpasswd`],
        ...Object.entries(shares).flatMap(([name, share]) => [`[${name}]`, `path = ${share}`, 'read only = no']),
        '',
      ].join('\n'),
    );
    const server = new SmbServer(folder, shares, port, ['smbd', '-F', '--no-process-group', '-s', config]);
    server.setPassword(SmbServer.password);
    return server;
  }

  /** From the next log-on; sessions that are there go on. */
  setPassword(password: string): void {
    execFileSync('smbpasswd', ['-c', path.join(this.folder, 'smb.conf'), '-s', '-a', SmbServer.user], {
      input: `${password}\n${password}\n`,
      stdio: ['pipe', 'ignore', 'pipe'],
    });
  }

  location(share: string): string {
    return `smb://${hostAddress}/${share}?version=3.1.1&port=${this.port}`;
  }
}

function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch {
      // It ended by itself.
    }
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
