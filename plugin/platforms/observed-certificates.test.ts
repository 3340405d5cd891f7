import { X509Certificate } from 'node:crypto';
import { createAuthority } from '../../common/tls/authority';
import type { Engine } from '../engine/engine';
import { quietLogger } from '../testing/quiet-logger';
import { ObservedCertificates } from './observed-certificates';

const dayMs = 86_400_000;
const ports = { imageioPort: 54322, imageioProxyPort: 54323 };

async function watched() {
  const { certificatePem } = await createAuthority('engine');
  const certificate = new X509Certificate(certificatePem);
  const clock = { now: new Date('2030-01-01T00:00:00Z') };
  const looks: string[] = [];
  const closed = new Set<string>();
  let hosts: { name: string; address: string }[] | undefined = [
    { name: 'alpha', address: '10.0.0.1' },
    { name: 'beta', address: 'fd00::2' },
  ];
  const engine = {
    url: 'https://engine.example/ovirt-engine',
    imageioCaPem: certificatePem,
    hosts: {
      list: async () => {
        if (!hosts) throw new Error('away');
        return hosts;
      },
    },
  } as unknown as Engine;
  let changed: () => void = () => undefined;
  const platforms = {
    list: () => [{ platformId: 'p1' }] as never,
    of: () => engine,
    onChanged: (listener: never) => {
      changed = listener;
      return () => undefined;
    },
  };
  const look = async ({ host, port }: { host: string; port: number }) => {
    looks.push(`${host}:${port}`);
    if (closed.has(host)) throw Object.assign(new Error('x'), { code: 'ECONNREFUSED' });
    return certificate;
  };
  const observed = new ObservedCertificates(platforms, ports, quietLogger().logger, () => clock.now, look);
  await observed.start();
  return {
    observed,
    looks,
    closed,
    clock,
    change: () => changed(),
    setHosts: (next: typeof hosts) => (hosts = next),
    [Symbol.asyncDispose]: () => observed.stop(),
  };
}

describe('observed certificates', () => {
  it('are the CA, the web server, the image proxy and every host', async () => {
    await using at = await watched();
    expect(await at.observed.list(false)).toMatchObject([
      { kind: 'engine-ca', name: 'engine.example', endpoint: '', certificate: expect.any(X509Certificate) },
      { kind: 'engine-web', endpoint: 'engine.example:443' },
      { kind: 'engine-proxy', endpoint: 'engine.example:54323' },
      { kind: 'host', name: 'alpha', endpoint: '10.0.0.1:54322', failure: undefined },
      { kind: 'host', name: 'beta', endpoint: '[fd00::2]:54322', failure: undefined },
    ]);
  });

  it('are looked at once a day, when asked to, and after a change of platforms', async () => {
    await using at = await watched();
    await at.observed.list(false);
    await at.observed.list(false);
    expect(at.looks).toHaveLength(4);
    await at.observed.list(true);
    expect(at.looks).toHaveLength(8);
    at.clock.now = new Date(at.clock.now.getTime() + dayMs);
    await at.observed.list(false);
    expect(at.looks).toHaveLength(12);
    at.change();
    await Promise.all([at.observed.list(false), at.observed.list(false)]);
    expect(at.looks).toHaveLength(16);
  });

  it('that cannot be reached keep what was seen, with the reason', async () => {
    await using at = await watched();
    at.closed.add('fd00::2');
    const first = (await at.observed.list(false)).at(-1);
    expect(first).toMatchObject({ name: 'beta', certificate: undefined, observedAt: undefined, failure: { code: 'PEER_UNAVAILABLE' } });
    expect(first?.failure?.message).toContain('[fd00::2]:54322 (ECONNREFUSED)');
    at.closed.clear();
    await at.observed.list(true);
    at.closed.add('fd00::2');
    expect((await at.observed.list(true)).at(-1)).toMatchObject({
      certificate: expect.any(X509Certificate),
      failure: { code: 'PEER_UNAVAILABLE' },
    });
  });

  it('of hosts stay known while the engine does not answer, and go with the host', async () => {
    await using at = await watched();
    await at.observed.list(true);
    at.setHosts(undefined);
    expect((await at.observed.list(true)).filter((one) => one.kind === 'host')).toHaveLength(2);
    at.setHosts([{ name: 'alpha', address: '10.0.0.1' }]);
    expect((await at.observed.list(true)).filter((one) => one.kind === 'host')).toHaveLength(1);
  });
});
