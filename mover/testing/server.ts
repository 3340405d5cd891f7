/** What starting servers of others takes. */
import { randomInt } from 'node:crypto';
import net from 'node:net';

/** Waits until `look` says so; what it throws means not yet. The time is for what hangs: a busy machine must not reach it. */
export async function until(what: string, timeoutMs: number, look: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + timeoutMs;
  let last: unknown;
  while (performance.now() < end) {
    try {
      if (await look()) return;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`${what} did not come up`, { cause: last });
}

/**
 * A port of this machine that nobody uses now, below those that Linux hands out by itself (net.ipv4.ip_local_port_range, from 32768 on): servers take a
 * while to open theirs, and one that is killed and started again finds it free.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_240, 32_768);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
    server.listen(port, '::', () => server.close(() => resolve(true)));
  });
}
