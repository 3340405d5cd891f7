import type tls from 'node:tls';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { encodeFrame } from '../../proto/data-mover/frame-codec';
import { FrameType } from '../../proto/data-mover/frame-types';
import { MoverDouble } from '../testing/mover-double';
import type { MoverDoubleOptions } from '../testing/mover-double';
import { cellToWire } from './cell';
import type { Surroundings } from './endpoint-check';
import { moverLook, throughputCell } from './mover-check';
import type { MoverTarget } from './mover-check';
import { systemNames } from './names';

const around: Surroundings = { names: systemNames, skewMs: 0, now: Date.now, timeoutMs: 60_000, signal: new AbortController().signal };
let mover: MoverDouble;
afterEach(() => mover.stop());

async function target(options: MoverDoubleOptions = {}, more: Partial<MoverTarget> = {}): Promise<MoverTarget> {
  mover = await MoverDouble.start(options);
  const { endpoints, identity } = await mover.address();
  return { endpoints, identity, name: 'repository 1', serverName: '', ticket: 'probe.ticket', ...more };
}

/** The mover answers Hello with this code. */
function refuseHello(code: string): void {
  mover.fault = (type, double, socket) => {
    if (type === FrameType.hello) double.refuse(socket, 0, code);
    return type === FrameType.hello;
  };
}

describe('the look at a mover', () => {
  it('goes as a task would, and passes', async () => {
    const look = await moverLook(await target(), around);
    expect(look).toMatchObject({ measurable: true, cell: { check: 'mover', verdict: 'passed', code: '', targetName: 'repository 1' } });
    expect(mover.frames.get(FrameType.hello)).toBe(1);
  });

  it('checks the name that the certificate must carry', async () => {
    const { cell } = await moverLook(await target({}, { serverName: 'gateway.test' }), around);
    expect(cell).toMatchObject({ verdict: 'failed', code: 'CERTIFICATE_NAME_DIFFERS' });
  });

  it('refuses what is not a mover', async () => {
    const { cell, measurable } = await moverLook(await target({ role: 'plugin' }), around);
    expect(cell).toMatchObject({ verdict: 'failed', code: 'ROLE_REFUSED' });
    expect(cell.detail).toContain('role plugin');
    expect(measurable).toBe(false);
    expect(mover.frames.size).toBe(0);
  });

  it('tells that its own certificate is not taken', async () => {
    const good = await target();
    const stranger = await issueIdentity(await createAuthority('old'), { role: 'worker', id: 'w' }, []);
    const identity = { ...stranger, trustBundlePem: good.identity.trustBundlePem };
    const { cell } = await moverLook({ ...good, identity }, around);
    expect(cell).toMatchObject({ verdict: 'failed', code: 'OWN_CERTIFICATE_REFUSED' });
    expect(cell.advice).toContain('tidemark cert list');
  });

  it.each([
    ['ROLE_NOT_ALLOWED', 'failed', 'ROLE_REFUSED'],
    ['TICKET_EXPIRED', 'failed', 'MOVER_REFUSED'],
    ['TOO_MANY_CONNECTIONS', 'warning', 'MOVER_BUSY'],
    ['TICKET_INVALID', 'warning', 'MOVER_NOT_MEASURABLE'],
  ])('understands %s', async (refused, verdict, code) => {
    const order = await target();
    refuseHello(refused);
    expect(await moverLook(order, around)).toMatchObject({ measurable: false, cell: { verdict, code } });
  });

  it('says when the mover is silent after the handshake', async () => {
    const order = await target();
    mover.fault = (type) => type === FrameType.hello;
    const { cell } = await moverLook(order, { ...around, timeoutMs: 1_500 });
    expect(cell).toMatchObject({ verdict: 'failed', code: 'CONNECTION_CLOSED' });
    expect(cell.detail).toContain('did not answer Hello');
  });

  it('tries the next endpoint, and says that the first was in the way', async () => {
    const order = await target();
    const { cell, endpoint } = await moverLook({ ...order, endpoints: ['127.0.0.1:1', ...order.endpoints] }, around);
    expect(endpoint).toBe(order.endpoints[0]);
    expect(cell).toMatchObject({ verdict: 'warning', code: 'CONNECTION_REFUSED' });
    expect(cell.advice).toContain('TCP 1 from 127.0.0.1 (this worker) to repository 1 (127.0.0.1)');
  });

  it('lets no ticket out, whatever the mover says', async () => {
    const order = await target();
    mover.fault = (type, _double, socket: tls.TLSSocket) => {
      if (type === FrameType.hello)
        socket.write(encodeFrame(FrameType.error, { sequence: 0, code: 'TICKET_EXPIRED', message: `not ${order.ticket}`, retry: 1 }));
      return true;
    };
    const { cell } = await moverLook(order, around);
    expect(cell.detail).toContain(order.ticket);
    expect(JSON.stringify(cellToWire(cell, [order.ticket]))).not.toContain(order.ticket);
  });
});

describe('the throughput sample', () => {
  it('sends 64 MiB and tells the rate', async () => {
    const order = await target();
    const cell = await throughputCell(order, order.endpoints[0] as string, around);
    expect(mover.probedBytes).toBe(64 * 1024 * 1024);
    // How fast a loaded machine is, is not this test's business; what is said of it is.
    const isLow = (cell.bytesPerSecond ?? 0) < 10e6;
    expect(cell).toMatchObject({
      check: 'throughput',
      verdict: isLow ? 'warning' : 'passed',
      code: isLow ? 'THROUGHPUT_LOW' : '',
      localAddress: '127.0.0.1',
      bytesPerSecond: expect.any(Number) as number,
    });
    expect(cell.detail).toMatch(/^64 MiB to /);
  });

  it('says so when the mover hangs up in the middle', async () => {
    const order = await target();
    mover.fault = (type, double, socket) => {
      if (double.probedBytes > 3e6) socket.destroy();
      return type === FrameType.bye;
    };
    const cell = await throughputCell(order, order.endpoints[0] as string, around);
    expect(cell).toMatchObject({ check: 'throughput', verdict: 'failed' });
  });

  it('ends when the test ends', async () => {
    const order = await target({ probeRate: 1e6 });
    const aborter = new AbortController();
    setTimeout(() => aborter.abort(), 300);
    const cell = await throughputCell(order, order.endpoints[0] as string, { ...around, signal: aborter.signal });
    expect(cell.verdict).toBe('failed');
  });
});
