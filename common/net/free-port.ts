import { randomInt } from 'node:crypto';
import net from 'node:net';

/**
 * Below those that Linux hands out by itself, to connections and to whoever asks for any port (net.ipv4.ip_local_port_range, from 32768 on):
 * nobody gets it by chance before its owner listens, or while its owner is down for a restart.
 */
const firstPort = 10_240;
const endOfPorts = 32_768;

/** Told to somebody in this process, and perhaps not listened on yet. */
const given = new Set<number>();

/** A port that nobody listens on just now at this address, by default at any of the machine, never the same one twice in a process. There are 22,000 to choose from. */
export async function freePort(address = '::'): Promise<number> {
  for (;;) {
    const port = randomInt(firstPort, endOfPorts);
    if (given.has(port)) continue;
    given.add(port);
    if (await isFree(address, port)) return port;
  }
}

/** Rejects when the address itself cannot be listened on. */
export async function isFree(address: string, port: number): Promise<boolean> {
  return await new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
