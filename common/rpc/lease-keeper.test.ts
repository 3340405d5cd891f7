import { CommonErrors } from '../errors/common-errors';
import { loggerTo } from '../log/logger';
import { LeaseKeeper } from './lease-keeper';
import type { LeaseHolder } from './lease-keeper';

const away = () => CommonErrors.PEER_UNAVAILABLE({ peer: 'host:1' });

async function run(holder: LeaseHolder, until: (keeper: LeaseKeeper) => boolean) {
  const lines: { level: string; code?: unknown }[] = [];
  const keeper = new LeaseKeeper(
    'host:1',
    holder,
    loggerTo((level, _text, { code }) => lines.push({ level, code })),
  );
  const stop = new AbortController();
  const running = keeper.run(stop.signal);
  for (const end = Date.now() + 120_000; !until(keeper);) {
    if (Date.now() > end) throw new Error('did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const { state } = keeper;
  stop.abort();
  await running;
  return { state, lines };
}

describe('LeaseKeeper', () => {
  it('beats at once when told, however long the lease is', async () => {
    let beats = 0;
    let keeper: LeaseKeeper | undefined;
    const holder = {
      // A third of it comes long after the end of this test.
      register: async () => 3_600_000,
      beat: async () => {
        beats += 1;
        return undefined;
      },
    };
    const { state } = await run(holder, (one) => {
      keeper ??= one;
      if (one.state === 'registered' && beats < 2) one.beatNow();
      return beats >= 2;
    });
    expect(state).toBe('registered');
    expect(beats).toBeGreaterThanOrEqual(2);
  });

  it('runs what needs the lease as long as it holds, and registers again when it is lost', async () => {
    let registrations = 0;
    let ended = 0;
    const holder: LeaseHolder = {
      register: async () => (registrations += 1) && 300,
      beat: async () => {
        if (registrations === 1) throw CommonErrors.LEASE_LOST({ leaseId: 'l' });
        return undefined;
      },
      whileHeld: (signal) =>
        new Promise((resolve) =>
          signal.addEventListener('abort', () => {
            ended += 1;
            resolve();
          }),
        ),
    };
    await run(holder, () => registrations === 2);
    expect(ended).toBe(2);
  });

  it('says what is wrong with the certificates when that is why the host cannot be reached', async () => {
    const refused = CommonErrors.CERTIFICATE_NOT_ACCEPTED({ peer: 'host:1', why: 'expired' });
    let tries = 0;
    const holder: LeaseHolder = {
      register: async () => {
        tries += 1;
        throw away();
      },
      beat: async () => undefined,
      diagnose: async () => refused,
    };
    const { state, lines } = await run(holder, () => tries >= 3);
    expect(state).toBe('refused');
    expect(lines.filter((line) => line.level === 'error')).toMatchObject([{ code: 'CERTIFICATE_NOT_ACCEPTED' }]);
  });
});
