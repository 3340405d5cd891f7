import { once } from 'node:events';
import net from 'node:net';
import { freePort, isFree } from './free-port';

test('a port is free until somebody listens on it, at whatever address', async () => {
  const port = await freePort();
  expect(port).toBeLessThan(32_768);
  const server = net.createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  try {
    expect(await isFree('127.0.0.1', port)).toBe(false);
    expect(await isFree('::', port)).toBe(false);
    expect(await isFree('127.0.0.2', port)).toBe(true);
  } finally {
    server.close();
  }
});

test('no port is told twice', async () => {
  const ports = await Promise.all(Array.from({ length: 50 }, () => freePort('127.0.0.1')));
  expect(new Set(ports).size).toBe(ports.length);
});

test('an address that is not of this machine is no busy port', async () => {
  await expect(isFree('192.0.2.1', 20_000)).rejects.toMatchObject({ code: 'EADDRNOTAVAIL' });
});
