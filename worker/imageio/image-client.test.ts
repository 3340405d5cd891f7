import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import type { AddressInfo } from 'node:net';
import { createAuthority } from '../../common/tls/authority';
import { ImageServiceDouble } from '../testing/image-service-double';
import { choosePath } from './choose-path';
import { ImageClient } from './image-client';
import { parseImageUrl } from './image-endpoint';

/** Long: a machine that stands still is no silent service. */
const timeouts = { connectMs: 600_000, headMs: 600_000, stallMs: 600_000 };
const image = randomBytes(1 << 20);
let service: ImageServiceDouble;
let aborter: AbortController;
const clients: ImageClient[] = [];

function newClient(more: Partial<typeof timeouts> = {}, pausesMs: readonly number[] = [1, 1]): ImageClient {
  const client = new ImageClient(service.endpoint, aborter.signal, { ...timeouts, ...more }, pausesMs);
  clients.push(client);
  return client;
}

beforeEach(async () => {
  service = await ImageServiceDouble.start(Buffer.from(image));
  aborter = new AbortController();
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  await service.stop();
});

describe('image client', () => {
  it('reads ranges into the caller’s buffer over one kept connection', async () => {
    const client = newClient();
    for (const [offset, length] of [
      [0, 4096],
      [4097, 1],
      [12_345, 700_000],
      [image.length - 3, 3],
    ] as const) {
      const target = Buffer.alloc(length);
      await client.read(offset, target);
      expect(target.equals(image.subarray(offset, offset + length))).toBe(true);
    }
    expect(service.connections).toBe(1);
  });

  it('reads a range again on a new connection when its body was cut', async () => {
    service.fault = ({ method, connection }) =>
      method === 'GET' && connection === 1 ? { status: 206, body: image.subarray(0, 65536), cutAfterBytes: 30_000 } : undefined;
    const target = Buffer.alloc(65536);
    await newClient().read(0, target);
    expect(target.equals(image.subarray(0, 65536))).toBe(true);
    expect(service.connections).toBe(2);
  });

  it('leaves a connection that answers 500 for ever and succeeds on a new one', async () => {
    service.fault = ({ connection }) => (connection === 1 ? { status: 500, body: 'check logs' } : undefined);
    await newClient().read(0, Buffer.alloc(10));
    expect(service.requests.map((r) => r.connection)).toEqual([1, 2]);
  });

  it('gives up with IMAGE_STORAGE_FAILED after the last try, each on a connection of its own', async () => {
    service.fault = () => ({ status: 500, body: 'check logs' });
    await expect(newClient().read(0, Buffer.alloc(10))).rejects.toMatchObject({ code: 'IMAGE_STORAGE_FAILED', retry: 'same-request' });
    expect(service.requests.map((r) => r.connection)).toEqual([1, 2, 3]);
  });

  it('asks for a fresh ticket at once when the service answers 403', async () => {
    service.fault = () => ({ status: 403, body: 'No such ticket 11111111-2222-3333-4444-555555555555', close: true });
    const failure = newClient().read(0, Buffer.alloc(10));
    await expect(failure).rejects.toMatchObject({ code: 'IMAGE_TICKET_REFUSED', retry: 'fresh-ticket' });
    expect(service.requests).toHaveLength(1);
  });

  it('does not repeat a range that lies outside', async () => {
    const failure = newClient().read(image.length - 5, Buffer.alloc(10));
    await expect(failure).rejects.toMatchObject({ code: 'IMAGE_RANGE_REFUSED', meta: { offset: image.length - 5, lengthBytes: 10 } });
    expect(service.requests).toHaveLength(1);
  });

  it.each([
    ['a shorter announcement', { status: 206, body: image.subarray(0, 90) }],
    ['a longer announcement', { status: 206, body: image.subarray(0, 110) }],
    ['an end before what was announced', { status: 206, body: image.subarray(0, 100), announce: 100, cutAfterBytes: 120 }],
  ])('never takes %s for the range', async (_name, answer) => {
    service.fault = ({ connection }) => (connection === 1 ? answer : undefined);
    const target = Buffer.alloc(100);
    await newClient().read(0, target);
    expect(target.equals(image.subarray(0, 100))).toBe(true);
    expect(service.connections).toBe(2);
  });

  it('asks again on a new connection when there is no answer in time', async () => {
    service.fault = ({ connection }) => (connection === 1 ? 'silent' : undefined);
    const target = Buffer.alloc(100);
    // A machine that stands still looks as silent, so there may be more tries than one.
    const client = newClient(
      { headMs: 400 },
      Array.from({ length: 50 }, () => 1),
    );
    await client.read(0, target);
    expect(target.equals(image.subarray(0, 100))).toBe(true);
    expect(service.requests[0]?.connection).toBe(1);
    expect(service.connections).toBeGreaterThan(1);
  });

  it('refuses a 200 with the whole image in place of the range', async () => {
    service.fault = () => ({ status: 200, body: image.subarray(0, 100) });
    await expect(newClient().read(0, Buffer.alloc(100))).rejects.toMatchObject({ code: 'IMAGE_REQUEST_REFUSED' });
  });

  it('goes on over a new connection when the service closes after an answer', async () => {
    service.fault = ({ connection }) => (connection === 1 ? { status: 206, body: image.subarray(0, 100), close: true } : undefined);
    const client = newClient();
    await client.read(0, Buffer.alloc(100));
    await client.read(0, Buffer.alloc(100));
    expect(service.connections).toBe(2);
  });

  it('writes, zeroes and flushes', async () => {
    const client = newClient();
    const bytes = randomBytes(5_000);
    await client.write(777, bytes);
    await client.zero(100_000, 50_000);
    await client.flush();
    expect(service.image.subarray(777, 5_777).equals(bytes)).toBe(true);
    expect(service.image.subarray(100_000, 150_000).every((byte) => byte === 0)).toBe(true);
    expect(service.requests.map((r) => r.target)).toEqual(['/images/ticket-1?flush=n', '/images/ticket-1', '/images/ticket-1']);
  });

  it('answers CHANGED_EXTENTS_UNAVAILABLE when there is no dirty bitmap', async () => {
    const failure = newClient().extents('dirty', () => () => undefined);
    await expect(failure).rejects.toMatchObject({ code: 'CHANGED_EXTENTS_UNAVAILABLE', retry: 'full-backup' });
  });

  it('starts the list of extents afresh after a cut', async () => {
    const text = JSON.stringify([
      { start: 0, length: 4096, zero: true, hole: true },
      { start: 4096, length: image.length - 4096, zero: false, hole: false },
    ]);
    service.zeroExtents = text;
    service.fault = ({ connection }) => (connection === 1 ? { status: 200, body: text, cutAfterBytes: 110 } : undefined);
    let seen: [number, number, boolean][] = [];
    const size = await newClient().extents('zero', () => {
      seen = [];
      return (start, length, zero) => seen.push([start, length, zero]);
    });
    expect(size).toBe(image.length);
    expect(seen).toEqual([
      [0, 4096, true],
      [4096, image.length - 4096, false],
    ]);
  });

  it('ends a request under way when it is cancelled', async () => {
    service.fault = () => 'silent';
    const failure = expect(newClient().read(0, Buffer.alloc(10))).rejects.toMatchObject({ code: 'CANCELLED' });
    const until = Date.now() + 50_000;
    while (service.requests.length === 0 && Date.now() < until) await new Promise((resolve) => setImmediate(resolve));
    aborter.abort();
    await failure;
  });
});

test('a way to an image is given up at once when it is cancelled while nobody answers', async () => {
  // It takes connections and never says a word: its backlog does, for a daemon that hangs.
  const mute = net.createServer();
  mute.listen(0, '127.0.0.1');
  await once(mute, 'listening');
  const { port } = mute.address() as AddressInfo;
  const endpoint = { ...service.endpoint, host: '127.0.0.1', port };
  const connected = once(mute, 'connection') as Promise<[net.Socket]>;
  const read = new ImageClient(endpoint, aborter.signal, { ...timeouts, connectMs: 600_000 }, []).read(0, Buffer.alloc(10));
  const failure = expect(read).rejects.toMatchObject({ code: 'CANCELLED' });
  const [socket] = await connected;
  aborter.abort();
  await failure;
  socket.destroy();
  await new Promise((resolve) => mute.close(resolve));
});

describe('way to an image', () => {
  it('goes direct when the host answers', async () => {
    const chosen = await choosePath({ transferUrl: service.url, proxyUrl: service.url, caPem: service.caPem }, aborter.signal, timeouts);
    clients.push(chosen.client);
    expect([chosen.path, chosen.reason, chosen.options.maxReaders]).toEqual(['direct', '', 8]);
  });

  it('goes through the proxy and says why when the host cannot be reached', async () => {
    const gone = await ImageServiceDouble.start(Buffer.alloc(1));
    const transferUrl = gone.url;
    await gone.stop();
    const chosen = await choosePath({ transferUrl, proxyUrl: service.url, caPem: service.caPem }, aborter.signal, timeouts);
    clients.push(chosen.client);
    expect(chosen.path).toBe('proxy');
    expect(chosen.reason).toContain('ECONNREFUSED');
    expect(chosen.reason).not.toContain('ticket-1');
  });

  it('does not fall back when the host refuses the ticket', async () => {
    service.fault = () => ({ status: 403, close: true });
    const failure = choosePath({ transferUrl: service.url, proxyUrl: service.url, caPem: service.caPem }, aborter.signal, timeouts);
    await expect(failure).rejects.toMatchObject({ code: 'IMAGE_TICKET_REFUSED' });
    expect(service.requests).toHaveLength(1);
  });

  it('trusts no certificate but one of the given CA', async () => {
    const { certificatePem } = await createAuthority('another engine');
    const failure = choosePath({ transferUrl: service.url, proxyUrl: '', caPem: certificatePem }, aborter.signal, timeouts);
    await expect(failure).rejects.toMatchObject({ code: 'IMAGE_CERTIFICATE_REJECTED', retry: 'after-operator' });
  });

  it('reaches a host by IPv6', async () => {
    const six = await ImageServiceDouble.start(Buffer.from(image), '::1');
    try {
      const chosen = await choosePath({ transferUrl: six.url, proxyUrl: '', caPem: six.caPem }, aborter.signal, timeouts);
      clients.push(chosen.client);
      expect(chosen.endpoint.host).toBe('::1');
    } finally {
      await six.stop();
    }
  });

  it.each(['http://h:1/images/x', 'https://h:1/other', 'https://h:1/images/x?y', 'nonsense'])('refuses %s', (url) => {
    expect(() => parseImageUrl(url, '')).toThrow(expect.objectContaining({ code: 'IMAGE_URL_INVALID' }));
  });
});
