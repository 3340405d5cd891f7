import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { CliResult } from './installation';

const root = path.resolve(__dirname, '..', '..', '..');
const launcher = path.join(root, 'dist', 'host-adapter', 'cli', 'tidemark.js');

/** Hides what lies in the arguments up to `--`, then runs the rest. Of a folder nothing is left, of a file neither. */
const hide = `while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mount -t tmpfs -o mode=0700 none "$1"; else mount --bind /dev/null "$1"; fi || exit 125
  shift
done
shift
exec "$@"`;

/**
 * Another machine that has the program and a folder, and nothing else of an installation: a mount namespace in which the server, its movers and the lab
 * are not there. Needs root, or user namespaces.
 */
export class OtherMachine {
  constructor(
    private readonly folder: string,
    private readonly hidden: readonly string[],
  ) {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  at(name: string): string {
    return path.join(this.folder, name);
  }

  /** A file that somebody carried there. */
  give(name: string, content: string): void {
    fs.writeFileSync(this.at(name), content, { mode: 0o600 });
  }

  tidemark(...args: string[]): Promise<CliResult> {
    const user = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
    const words = [...user, '--mount', '--', 'sh', '-c', hide, 'other-machine', ...this.hidden, '--', process.execPath, launcher, ...args];
    // No setting of this machine goes along.
    const env = { PATH: process.env['PATH'], HOME: this.folder };
    return new Promise((resolve) => {
      execFile('unshare', words, { env, cwd: this.folder, maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
        const code = error ? (typeof error.code === 'number' ? error.code : 1) : 0;
        resolve({ code, stdout, stderr });
      });
    });
  }
}
