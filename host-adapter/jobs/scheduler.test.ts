import { CommonErrors } from '../../common/errors/common-errors';
import type { EventStore, NewEvent } from '../catalogue/event-store';
import type { JobStore, StoredJob } from '../catalogue/job-store';
import { quiet } from '../testing/fake-process';
import type { WorkerPreparation } from '../workers/worker-preparation';
import { Scheduler } from './scheduler';
import type { SessionEngine } from './session-engine';

const minuteMs = 60_000;

/** A scheduler over jobs in memory, at noon. */
function bench(...made: (Partial<StoredJob> & { readonly cron: string })[]) {
  const clock = { now: new Date('2030-03-01T12:00:00Z') };
  const jobs = made.map(({ cron, ...more }, index) => ({
    id: `job-${index}`,
    name: `job ${index}`,
    enabled: true,
    definition: { schedule: { cron, timeZone: 'UTC' } },
    scheduledAt: '2030-03-01T11:30:00.000Z',
    ...more,
  })) as unknown as (StoredJob & { scheduledAt: string })[];
  const started: string[] = [];
  const failures: unknown[] = [];
  const events: string[] = [];
  const asked: string[] = [];
  const store = {
    all: async () => jobs,
    setScheduledAt: async (id: string, at: string) => {
      for (const job of jobs) if (job.id === id) job.scheduledAt = at;
    },
  } as unknown as JobStore;
  const engine = {
    startBackup: async (id: string, _order: object, _trigger: string, at: string) => {
      const failure = failures.shift();
      if (failure) throw failure as Error;
      started.push(id);
      await store.setScheduledAt(id, at);
    },
  } as unknown as SessionEngine;
  let isAway = false;
  const preparation = {
    forJob: async ({ id }: StoredJob) => {
      asked.push(id);
      return !isAway;
    },
  } as unknown as WorkerPreparation;
  const eventStore = { add: async ({ code }: NewEvent) => void events.push(code) } as unknown as EventStore;
  const scheduler = new Scheduler(store, engine, preparation, eventStore, quiet, () => clock.now);
  return {
    jobs,
    started,
    failures,
    events,
    asked,
    plugins: { away: (away: boolean) => (isAway = away) },
    tick: (ms = 0) => {
      clock.now = new Date(clock.now.getTime() + ms);
      return scheduler.tick();
    },
  };
}

describe('Scheduler', () => {
  it('starts what is due, once', async () => {
    const { tick, started } = bench({ cron: '0 12 * * *' }, { cron: '0 13 * * *' });
    await tick();
    await tick(1000);
    expect(started).toEqual(['job-0']);
  });

  it('does not let one job whose schedule cannot be read keep the others from running, and tells of it once', async () => {
    const { tick, started, events } = bench({ cron: 'damaged' }, { cron: '0 12 * * *' });
    await tick();
    await tick(1000);
    expect(started).toEqual(['job-1']);
    expect(events).toEqual(['SCHEDULE_INVALID']);
  });

  it('loses no run to a catalogue that cannot be written for a while', async () => {
    const { tick, started, failures } = bench({ cron: '0 12 * * *' });
    const full = Object.assign(new Error('full'), { code: 'SQLITE_FULL' });
    failures.push(full, full);
    for (let at = 0; at < 3; at += 1) await tick(1000);
    expect(started).toEqual(['job-0']);
  });

  it('leaves a run out that cannot start for a reason, with an event', async () => {
    const { tick, started, failures, events } = bench({ cron: '0 12 * * *' });
    failures.push(CommonErrors.ARGUMENT_INVALID({ field: 'x', problem: 'is wrong' }));
    await tick();
    await tick(1000);
    expect([started, events]).toEqual([[], ['ARGUMENT_INVALID']]);
  });

  it('runs a job again whose last start was noted while the clock was a year ahead', async () => {
    const { tick, started } = bench({ cron: '0 13 * * *', scheduledAt: '2031-03-01T12:00:00.000Z' });
    await tick();
    await tick(61 * minuteMs);
    expect(started).toEqual(['job-0']);
  });

  it('asks for workers again until every plug-in was told', async () => {
    const now = performance.now();
    let waitedMs = 0;
    const clock = jest.spyOn(performance, 'now').mockImplementation(() => now + waitedMs);
    try {
      const { tick, asked, plugins } = bench({ cron: '3 12 * * *' });
      plugins.away(true);
      await tick();
      await tick();
      expect(asked).toHaveLength(1);
      plugins.away(false);
      waitedMs = 20_000;
      await tick();
      await tick();
      waitedMs = 60_000;
      await tick();
      expect(asked).toHaveLength(2);
    } finally {
      clock.mockRestore();
    }
  });
});
