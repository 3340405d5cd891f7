import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { RestClient } from './rest-client';

describe('following a session', () => {
  let server: http.Server;
  let answer: (request: http.IncomingMessage, response: http.ServerResponse) => void;
  let url: string;
  beforeEach(async () => {
    server = http.createServer((request, response) => answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(() => new Promise((resolve) => server.close(resolve)));

  const follow = async (awayMs: number) => {
    const api = new RestClient({ server: url, caPem: '' }, awayMs, 1);
    const seen: string[] = [];
    try {
      for await (const { event } of api.events('/x', new AbortController().signal)) seen.push(event);
      return seen;
    } finally {
      await api.close();
    }
  };
  const busy = (response: http.ServerResponse) => response.writeHead(503, { 'content-type': 'application/json' }).end('{"code":"X"}');

  it('goes on after a server that was away for many tries', async () => {
    let tries = 0;
    const asked: (string | string[] | undefined)[] = [];
    answer = (request, response) => {
      tries += 1;
      if (tries > 1 && tries < 30) return void busy(response);
      asked.push(request.headers['last-event-id']);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(tries === 1 ? 'id: 7\nevent: task\ndata: {}\n\n' : 'id: 8\nevent: end\ndata: {}\n\n');
    };
    expect(await follow(60_000)).toEqual(['task', 'end']);
    expect(asked).toEqual([undefined, '7']);
  });

  it('asks for the result until the server that was just started again can answer', async () => {
    let tries = 0;
    answer = (_request, response) => {
      tries += 1;
      if (tries < 4) return void busy(response);
      response.writeHead(tries === 4 ? 200 : 404, { 'content-type': 'application/json' }).end('{"id":"s"}');
    };
    const api = new RestClient({ server: url, caPem: '' }, 60_000, 1);
    const { signal } = new AbortController();
    expect(await api.getPatiently('/sessions/s', signal)).toEqual({ id: 's' });
    await expect(api.getPatiently('/sessions/s', signal)).rejects.toMatchObject({ exitCode: 4 });
    await api.close();
  });

  it('ends when the server stays away, with the code for that', async () => {
    answer = (_request, response) => void busy(response);
    await expect(follow(50)).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
  });
});
