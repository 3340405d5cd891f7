import { CommonErrors } from '../../common/errors/common-errors';
import { until } from '../testing/fake-process';
import { RetriedWork, allOf } from './retried-work';

describe('RetriedWork', () => {
  /** Work that fails as told, and stops where it is told to. */
  const make = (ends: (Error | undefined)[], hold?: () => Promise<void>) => {
    const runs: string[] = [];
    const told: string[] = [];
    const retried = new RetriedWork({
      name: 'a test',
      work: async (key) => {
        runs.push(key);
        await hold?.();
        const end = ends.shift();
        if (end) throw end;
      },
      failed: (key, error) => told.push(`${key} ${error.code}`),
      firstPauseMs: 1,
      longestPauseMs: 3,
    });
    return { retried, runs, told };
  };
  const away = () => CommonErrors.PEER_UNAVAILABLE({ peer: 'm' });

  it('tries until it worked, tells each kind of failure once, and then no more', async () => {
    const { retried, runs, told } = make([away(), away(), CommonErrors.LEASE_LOST({ leaseId: 'l' }), away()]);
    retried.want('a');
    await until(() => runs.length === 5);
    expect(told).toEqual(['a PEER_UNAVAILABLE', 'a LEASE_LOST', 'a PEER_UNAVAILABLE']);
    retried.want('b');
    await until(() => runs.includes('b'));
    expect(runs).toEqual(['a', 'a', 'a', 'a', 'a', 'b']);
  });

  it('runs once more, and never twice at a time, when it is wanted while it runs', async () => {
    let release = () => {};
    let atOnce = 0;
    const { retried, runs } = make([], async () => {
      atOnce += 1;
      expect(atOnce).toBe(1);
      await new Promise<void>((resolve) => (release = resolve));
      atOnce -= 1;
    });
    retried.want('a');
    retried.want('a');
    retried.want('a');
    expect(runs).toEqual(['a']);
    release();
    await until(() => runs.length === 2);
    release();
    retried.want('b');
    await until(() => runs.length === 3);
    expect(runs).toEqual(['a', 'a', 'b']);
  });

  it('does not wait for its next try when it is wanted, and tries nothing after its stop', async () => {
    const ends = [away(), away(), away()];
    const runs: string[] = [];
    const retried = new RetriedWork({
      name: 'a test',
      work: (key) => {
        runs.push(key);
        const end = ends.shift();
        return end ? Promise.reject(end) : Promise.resolve();
      },
      failed: () => undefined,
      firstPauseMs: 3_600_000,
    });
    retried.want('a');
    await until(() => ends.length === 2);
    retried.want('a');
    await until(() => ends.length === 1);
    await retried.stop();
    retried.want('a');
    await new Promise((resolve) => setImmediate(resolve));
    expect(runs).toEqual(['a', 'a']);
  });
});

describe('allOf', () => {
  it('waits for all, then throws the first failure', async () => {
    let done = false;
    const slow = new Promise<void>((resolve) =>
      setImmediate(() => {
        done = true;
        resolve();
      }),
    );
    await expect(allOf([Promise.reject(new Error('first')), slow, Promise.reject(new Error('second'))])).rejects.toThrow('first');
    expect(done).toBe(true);
  });
});
