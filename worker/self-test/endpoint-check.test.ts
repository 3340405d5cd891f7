import net from 'node:net';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import { createAuthority, issueCertificate } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import { createCertificateRequest } from '../../common/tls/certificate-request';
import type { Check } from './cell';
import { endpointCell } from './endpoint-check';
import type { Surroundings } from './endpoint-check';
import type { NameService } from './names';

const dayMs = 86_400_000;
const hourMs = 3_600_000;
let authority: Authority;
let other: Authority;
const servers: net.Server[] = [];

beforeAll(async () => {
  authority = await createAuthority('engine', 3650 * dayMs, new Date(Date.now() - 400 * dayMs));
  other = await createAuthority('other');
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
});

async function listen(server: net.Server, address = '127.0.0.1'): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  return (server.address() as AddressInfo).port;
}

/** A TLS server as a host's image daemon is one, with a certificate that began at `from`. */
async function daemon(options: { from?: number; lifetimeMs?: number; addresses?: string[]; signer?: Authority; at?: string } = {}) {
  const { from = Date.now(), lifetimeMs = 200 * dayMs, addresses = ['127.0.0.1', '::1', 'host1.test'], signer = authority, at } = options;
  const { privateKeyPem, certificateRequestPem } = await createCertificateRequest();
  const identity = { role: 'host' as const, id: 'h1' };
  const cert = await issueCertificate(signer, { certificateRequestPem, identity, addresses, lifetimeMs, now: new Date(from) });
  const server = tls.createServer({ key: privateKeyPem, cert }, (socket) => socket.on('error', () => undefined));
  server.on('tlsClientError', () => undefined);
  return listen(server, at);
}

const names: NameService = {
  lookup: async (name) => {
    const known: Record<string, string[]> = { 'host1.test': ['127.0.0.1'], 'both.test': ['127.0.0.2', '127.0.0.1'] };
    const found = known[name];
    if (!found) throw Object.assign(new Error(name), { code: 'ENOTFOUND' });
    return found;
  },
  servers: () => [],
  ask: async () => [],
};

function look(port: number, more: Partial<Surroundings> & { check?: Check; host?: string; caPem?: string } = {}) {
  const { check = 'host', host = '127.0.0.1', caPem = authority.certificatePem, ...rest } = more;
  const around: Surroundings = { names, skewMs: 0, now: Date.now, timeoutMs: 60_000, signal: new AbortController().signal, ...rest };
  return endpointCell({ check, endpoint: `${host}:${port}`, name: 'host1', caPem }, around);
}

describe('the look at a host', () => {
  it('passes with the days that its certificate has left', async () => {
    const cell = await look(await daemon());
    expect(cell).toMatchObject({ verdict: 'passed', code: '', advice: '', localAddress: '127.0.0.1', targetName: 'host1' });
    expect(cell.detail).toMatch(/^connected to host1 \(127\.0\.0\.1\) in \d+ ms, certificate valid for (199|200) days$/);
    expect(cell.latencyMs).toBeGreaterThan(0);
  });

  it('takes IPv6 addresses', async () => {
    const cell = await look(await daemon({ at: '::1' }), { host: '[::1]' });
    expect(cell).toMatchObject({ verdict: 'passed', localAddress: '::1' });
    expect(cell.detail).toContain('host1 (::1)');
  });

  it('says which end to look at when nothing listens', async () => {
    const server = net.createServer();
    const port = await listen(server);
    await new Promise((resolve) => server.close(resolve));
    servers.length = 0;
    expect(await look(port)).toMatchObject({
      verdict: 'failed',
      code: 'CONNECTION_REFUSED',
      advice: `Start ovirt-imageio on host1 (127.0.0.1): nothing listens on TCP ${port} there. If it runs, a firewall rejects the connection: open TCP ${port} from 127.0.0.1 (this worker) to host1 (127.0.0.1).`,
    });
  });

  it('knows a name that has no address', async () => {
    const cell = await look(443, { host: 'nowhere.test' });
    expect(cell).toMatchObject({ verdict: 'failed', code: 'NAME_NOT_RESOLVED', localAddress: '' });
    expect(cell.advice).toContain('Add nowhere.test to the DNS');
  });

  const refusals: [string, Parameters<typeof daemon>[0] & { isForeign?: true }, string, RegExp][] = [
    ['of another CA', { isForeign: true }, 'CERTIFICATE_REFUSED', /Enroll Certificate.*not signed by the CA/],
    ['of another machine', { addresses: ['10.9.9.9'] }, 'CERTIFICATE_NAME_DIFFERS', /is for .*10\.9\.9\.9.*not for 127\.0\.0\.1/],
    ['that has ended', { from: Date.now() - 300 * dayMs }, 'CERTIFICATE_EXPIRED', /was valid until/],
    ['that has not begun', { from: Date.now() + 2 * dayMs }, 'CERTIFICATE_NOT_YET_VALID', /is valid from/],
  ];
  it.each(refusals)('refuses a certificate %s', async (_name, { isForeign, ...options }, code, advice) => {
    const cell = await look(await daemon({ ...options, signer: isForeign ? other : authority }));
    expect(cell).toMatchObject({ verdict: 'failed', code });
    expect(cell.advice).toMatch(advice);
  });

  it('blames its own clock where that alone is wrong', async () => {
    // Made a moment ago by the clock of everybody else, which is three hours ahead of ours.
    const early = await look(await daemon({ from: Date.now() + 3 * hourMs }), { skewMs: -3 * hourMs });
    expect(early).toMatchObject({ verdict: 'failed', code: 'CERTIFICATE_NOT_YET_VALID' });
    expect(early.advice).toContain('Set the clock of this worker, which is 10800 s behind');
    const late = await look(await daemon({ from: Date.now() - 10 * dayMs, lifetimeMs: 10 * dayMs - hourMs }), { skewMs: 2 * hourMs });
    expect(late).toMatchObject({ code: 'CERTIFICATE_EXPIRED' });
    expect(late.advice).toContain('7200 s ahead');
  });

  it('warns of a certificate that ends soon', async () => {
    expect(await look(await daemon({ lifetimeMs: 10 * dayMs }))).toMatchObject({ verdict: 'warning', code: 'CERTIFICATE_ENDS_SOON' });
  });

  it('looks at the connection only when no CA is given', async () => {
    expect(await look(await daemon({ signer: other, addresses: ['10.9.9.9'] }), { caPem: '' })).toMatchObject({ verdict: 'passed' });
  });

  it('tells a stuck service, another protocol, and one that hangs up', async () => {
    const open: net.Socket[] = [];
    const stuck = await listen(net.createServer((socket) => open.push(socket)));
    const stuckCell = await look(stuck, { timeoutMs: 500 });
    expect(stuckCell).toMatchObject({ code: 'TLS_TIMED_OUT', verdict: 'failed' });
    expect(stuckCell.advice).toContain('MTU');
    for (const socket of open) socket.destroy();
    const plain = await listen(
      net.createServer((socket) =>
        socket
          .on('error', () => undefined)
          .resume()
          .end('HTTP/1.1 400 Bad Request\r\n\r\n'),
      ),
    );
    expect(await look(plain)).toMatchObject({ code: 'TLS_FAILED' });
    const rude = await listen(net.createServer((socket) => socket.on('error', () => undefined).destroy()));
    expect(await look(rude)).toMatchObject({ code: 'CONNECTION_CLOSED' });
  });

  it('tries the next address of a name, and says that the first was in the way', async () => {
    const cell = await look(await daemon({ addresses: ['both.test'] }), { host: 'both.test' });
    expect(cell).toMatchObject({ verdict: 'warning', code: 'CONNECTION_REFUSED' });
    expect(cell.detail).toContain('127.0.0.2 did not answer');
    expect(cell.advice).toContain('host1 (127.0.0.2)');
  });

  it('only tells of the proxy, whatever it finds', async () => {
    expect(await look(await daemon(), { check: 'proxy' })).toMatchObject({ verdict: 'info', code: '' });
    expect(await look(1, { check: 'proxy' })).toMatchObject({ verdict: 'info', code: 'CONNECTION_REFUSED' });
  });
});
