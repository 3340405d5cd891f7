import { loggerTo } from '../../common/log/logger';
import { CommonErrors } from '../../common/errors/common-errors';
import type { TaskContext } from '../jobs/task-context';
import type { TaskPath } from '../jobs/task-record';
import type { PluginClient } from '../registry/plugin-connections';
import { defaultKeeperTimes, PathKeeper } from './path-keeper';
import type { SessionPaths } from './session-paths';

const hourMs = 3_600_000;

/** A task with an open session on a mover that is well, at an hour of its run. */
function bench(path: Partial<TaskPath>) {
  let hour = 0;
  let looks = 0;
  let tickets = 0;
  let elapsedMs = 0;
  let stepMs = 0;
  let renewals = 0;
  const told: unknown[] = [];
  const failures: Error[] = [];
  const task = {
    moverSessionId: 's',
    operationId: 'o',
    step: 'started',
    state: 'transferring',
    waitingReason: null,
    path: { told: true, ...path },
  };
  let saves = 0;
  const context = {
    task,
    session: { repositoryId: 'r' },
    now: () => new Date(hour * hourMs),
    elapsedMs: () => elapsedMs,
    save: async () => void (saves += 1),
    waiting: async () => undefined,
  } as unknown as TaskContext;
  const plugin = {
    protection: {
      call: async (_method: string, { dataPath }: { dataPath: { ticket: string } }) => {
        const failure = failures.shift();
        if (failure) throw failure;
        told.push(dataPath.ticket);
      },
    },
  } as unknown as PluginClient;
  const paths = { pathTo: async () => ({ ticket: `ticket ${++tickets} of hour ${hour}` }) } as unknown as SessionPaths;
  const lookFailures: Error[] = [];
  const movers = {
    isConnected: async () => {
      looks += 1;
      const failure = lookFailures.shift();
      if (failure) throw failure;
      return true;
    },
  };
  const keeper = new PathKeeper(
    paths,
    { renew: async () => void (renewals += 1) },
    movers,
    loggerTo(() => undefined),
    { ...defaultKeeperTimes, lookEveryMs: 1 },
  );
  return {
    task,
    told,
    failures,
    lookFailures,
    /** Time that passes between two hours of `at`, as it is measured: whatever the clock says. */
    passes: (ms: number) => (stepMs = ms),
    renewals: () => renewals,
    saved: () => saves,
    /** Lets the keeper look some times at each of these hours. */
    at: async (...hours: number[]) => {
      const end = new AbortController();
      const kept = keeper.keep(context, () => Promise.resolve(plugin), end.signal, new AbortController()).catch(() => undefined);
      for (hour of hours) {
        elapsedMs += stepMs;
        const before = looks;
        while (looks < before + 3) await new Promise((resolve) => setImmediate(resolve));
      }
      end.abort();
      await kept;
    },
  };
}

describe('the ticket of a session that runs for days', () => {
  it('is made anew long before it ends, also over restarts of the server', async () => {
    const run = bench({ ticketAt: new Date(0).toISOString() });
    await run.at(0, 4, 7);
    expect(run.told).toEqual([]);
    await run.at(9, 12);
    expect(run.told).toEqual(['ticket 1 of hour 9']);
    expect(run.task.path.ticketAt).toBe(new Date(9 * hourMs).toISOString());
    expect(run.saved()).toBe(1);
    await run.at(16, 18, 30);
    expect(run.told.slice(1)).toEqual(['ticket 2 of hour 18', 'ticket 3 of hour 30']);
  });

  it('is tried again while the plug-in cannot be told', async () => {
    const run = bench({ ticketAt: new Date(0).toISOString() });
    run.failures.push(CommonErrors.PEER_UNAVAILABLE({ peer: 'plugin' }));
    await run.at(10);
    expect(run.told).toEqual(['ticket 2 of hour 10']);
  });

  it('of a task of a former version is made anew at once', async () => {
    const run = bench({});
    await run.at(500_000, 500_001);
    expect(run.told).toEqual(['ticket 1 of hour 500000']);
  });
});

describe('the lease of a session', () => {
  it('is renewed by the time that passed, also when the clock of the machine was set back', async () => {
    const run = bench({ ticketAt: new Date(20 * hourMs).toISOString() });
    await run.at(20);
    const before = run.renewals();
    run.passes(defaultKeeperTimes.renewEveryMs * 0.6);
    await run.at(19, 18);
    expect(run.renewals()).toBe(before + 1);
  });

  it('is looked after again when the catalogue could not be asked', async () => {
    const run = bench({ ticketAt: new Date(0).toISOString() });
    run.lookFailures.push(new TypeError('the catalogue cannot be read'));
    run.passes(defaultKeeperTimes.renewEveryMs * 0.6);
    await run.at(1, 1);
    expect(run.renewals()).toBe(1);
  });
});
