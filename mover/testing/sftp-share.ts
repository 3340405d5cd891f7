/**
 * A share on a network, mounted by a client in user space: OpenSSH's SFTP server and sshfs, from Debian. Kernel clients of NFS and SMB need a kernel that
 * has them, which the machines of tests seldom do; what a store must be careful about (a mount that goes away, no O_DIRECT, links and locks decided
 * elsewhere) is the same. Packages: openssh-sftp-server, sshfs.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { freePort } from '../../common/net/free-port';

export class SftpShare {
  private readonly mounted = new Set<string>();

  private constructor(
    private readonly folder: string,
    private readonly port: number,
    private readonly server: ChildProcess,
  ) {}

  /** In an empty folder. */
  static async start(folder: string): Promise<SftpShare> {
    fs.mkdirSync(path.join(folder, 'exported'), { recursive: true });
    const port = await freePort();
    const server = spawn(process.execPath, [path.join(__dirname, 'run-sftp-server.js'), String(port)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve, reject) => {
      server.stdout.once('data', resolve);
      server.once('exit', () => reject(new Error('the SFTP server did not start')));
    });
    return new SftpShare(folder, port, server);
  }

  /** What lies on the server. */
  get exported(): string {
    return path.join(this.folder, 'exported');
  }

  mount(point: string): void {
    execFileSync('sshfs', [...this.words, point]);
    this.mounted.add(point);
  }

  /** Lazily, as a network that is gone does it. */
  unmount(point: string): void {
    this.mounted.delete(point);
    execFileSync('umount', ['-l', point]);
  }

  /** Kills the client of a mount: whatever is asked of it fails (ENOTCONN), until it is unmounted. */
  breakMount(point: string): void {
    for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        if (words[0] === 'sshfs' && words.includes(point)) process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It ended while we looked.
      }
    }
  }

  /** A program with the command line of mount(8) that mounts this share, whatever the kernel knows; it writes down how it was called. */
  mountProgram(record: string): string {
    const program = path.join(this.folder, 'mount');
    const script = [
      '#!/bin/sh -e',
      // $1..$6: -t TYPE -o OPTIONS SOURCE POINT
      `printf '%s\\n' "$*" >> '${record}'`,
      `file=$(printf '%s' "$4" | tr , '\\n' | sed -n 's/^credentials=//p')`,
      `if [ -n "$file" ]; then stat -c '%a' "$file" >> '${record}'; cat "$file" >> '${record}'; fi`,
      `exec sshfs ${this.words.map((word) => `'${word}'`).join(' ')} "$6"`,
      '',
    ];
    fs.writeFileSync(program, script.join('\n'), { mode: 0o755 });
    return program;
  }

  async stop(): Promise<void> {
    for (const point of this.mounted) this.unmount(point);
    const ended = new Promise((resolve) => this.server.once('exit', resolve));
    this.server.kill('SIGKILL');
    await ended;
  }

  private get words(): string[] {
    return ['-o', `directport=${this.port}`, `127.0.0.1:${this.exported}`];
  }
}
