/** Another access key while requests are under way: a server that holds those with the old key, and then knows it no more. */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Secret } from '../../../common/log/redact';
import { Bucket } from './bucket';
import { parseS3Location } from './s3-location';

const access = (accessKeyId: string) => ({ accessKeyId, secretAccessKey: new Secret('secret') });
const refusal = '<?xml version="1.0"?><Error><Code>InvalidAccessKeyId</Code></Error>';

/** Knows one key; requests with another one wait for `release` and are refused. */
async function serve() {
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const stored: { key: string; content: string }[] = [];
  let waiting = 0;
  const server = http.createServer((request, response) => {
    const key = /Credential=([^/]+)/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      if (key !== 'new') {
        waiting += 1;
        void held.then(() => response.writeHead(403, { 'content-type': 'application/xml' }).end(refusal));
      } else if (request.method === 'PUT') {
        stored.push({ key, content: Buffer.concat(chunks).toString() });
        response.writeHead(200, { etag: '"1"' }).end();
      } else response.writeHead(200, { etag: '"1"', 'content-length': 4 }).end('read');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    location: parseS3Location(`s3:http://127.0.0.1:${port}/bucket`),
    release,
    stored,
    waitFor: async (count: number) => {
      while (waiting < count) await new Promise((resolve) => setTimeout(resolve, 5));
    },
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

test('what the old key is refused for is done with the new one', async () => {
  await using server = await serve();
  const bucket = new Bucket(server.location, access('old'));
  const under = [bucket.put('a', Buffer.from('written')), bucket.get('b', 100), bucket.read('c', 0, Buffer.alloc(4))] as const;
  await server.waitFor(3);
  bucket.useAccess(access('new'));
  server.release();
  expect(await Promise.all(under)).toEqual([true, { content: Buffer.from('read'), etag: '"1"' }, 4]);
  expect(server.stored).toEqual([{ key: 'new', content: 'written' }]);
  bucket.close();
});

test('what the new key is refused for stays refused', async () => {
  await using server = await serve();
  const bucket = new Bucket(server.location, access('old'));
  const under = expect(bucket.put('a', Buffer.from('written'))).rejects.toMatchObject({ code: 'REPOSITORY_LOCATION_INVALID' });
  await server.waitFor(1);
  bucket.useAccess(access('wrong'));
  server.release();
  await under;
  expect(server.stored).toEqual([]);
  bucket.close();
});
