import { createHash } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { CommonErrors } from '../errors/common-errors';

const lookEveryMs = 100;

export interface SoleProcessOptions {
  /** How long a process that ends may still have the folder. */
  readonly waitMs?: number;
  /** Told once, when it has to be waited for. */
  waiting?(): void;
}

/**
 * Makes this process the only one on its data folder until it ends, however it ends. A supervised child whose server was killed tidies up for
 * some seconds, while the next server already starts the next child: two of them must never write one journal.
 *
 * What is held is a listening socket in Linux's abstract namespace (unix(7)), named after the folder's device and inode: the kernel lets go of
 * it with the process, so nothing is ever left to unlock. Processes in different network namespaces do not see each other.
 *
 * Resolves with the way to let go early. Throws DATA_FOLDER_IN_USE after the wait.
 */
export async function becomeSoleProcess(dataFolder: string, options: SoleProcessOptions = {}): Promise<() => Promise<void>> {
  fs.mkdirSync(dataFolder, { recursive: true, mode: 0o700 });
  const { dev, ino } = fs.statSync(dataFolder, { bigint: true });
  const name = `\0tidemark-${createHash('sha256').update(`${dev}:${ino}`).digest('hex')}`;
  const until = performance.now() + (options.waitMs ?? 30_000);
  for (let attempt = 0; ; attempt += 1) {
    const held = await listenOn(name);
    if (held) return () => new Promise((resolve) => held.close(() => resolve()));
    if (performance.now() >= until) throw CommonErrors.DATA_FOLDER_IN_USE({ folder: path.resolve(dataFolder) });
    if (attempt === 0) options.waiting?.();
    await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
  }
}

/** Undefined while somebody else listens. */
function listenOn(name: string): Promise<net.Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)));
    server.listen(name, () => {
      // Holding the name must not keep a process alive that is done.
      server.unref();
      resolve(server);
    });
  });
}
