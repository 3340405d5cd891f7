import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Ports that are kept over restarts. They lie below those that Linux gives to connections and to whoever asks for any port (32768 and above):
 * while their owner is down, nobody else gets them by chance.
 */
const firstPort = 15_000;
const endOfPorts = 32_768;
const tries = 100;

/** A port of this address that nobody listens on just now. */
export async function freePort(address: string): Promise<number> {
  for (let left = tries; left > 0; left -= 1) {
    const port = randomInt(firstPort, endOfPorts);
    if (await isFree(address, port)) return port;
  }
  throw new Error(`None of ${tries} ports of ${address} is free.`);
}

export async function isFree(address: string, port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
