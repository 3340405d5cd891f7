import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../testing/eventually';
import { MemoryWorker } from '../testing/memory-worker';
import { quietLogger } from '../testing/quiet-logger';
import { ConnectedFleet } from './connected-fleet';
import { defaultFleetTiming } from './timing';

it('keeps the tasks of a worker that is away while this process does not run', async () => {
  const reconnectMs = 50;
  let elapsedMs = 0;
  const clock = { now: () => Date.now(), elapsed: () => elapsedMs };
  const fleet = new ConnectedFleet(quietLogger().logger, { ...defaultFleetTiming, reconnectMs }, clock);
  const worker = new MemoryWorker(fleet, 'w1');
  worker.answer = () => 'hang';
  await eventually('the worker', () => fleet.takers().length === 1);
  const { signal } = new AbortController();
  let lost = false;
  const outcome = fleet
    .take('w1')
    .run({ backupDisk: { diskId: 'd1' } }, { correlationId: 'c', signal, progress: () => undefined })
    .finally(() => (lost = true));
  await eventually('the task', () => worker.tasks.length === 1);
  expect(fleet.awayMs('w1')).toBe(0);
  worker.kill();
  await eventually('the break', () => fleet.connected().length === 0);
  // To this process no time passes, whatever its timers say.
  await sleep(6 * reconnectMs);
  expect([lost, fleet.awayMs('w1')]).toEqual([false, 0]);
  elapsedMs += reconnectMs;
  expect((await outcome).failure).toMatchObject({ code: 'WORKER_LOST' });
  expect([fleet.awayMs('w1'), fleet.awayMs('nobody')]).toEqual([reconnectMs, undefined]);
});

it('asks a worker that dials again for its self-test when it is back', async () => {
  const fleet = new ConnectedFleet(quietLogger().logger);
  const dial = () => new MemoryWorker(fleet, 'w1', 1, { platformId: 'p', clusterId: 'c', capabilities: ['self-test'], bootId: 'b' });
  const before = dial();
  await eventually('the worker', () => fleet.connected().length === 1);
  before.kill();
  await eventually('the break', () => fleet.connected().length === 0);
  const result = fleet.selfTest('w1', [], new AbortController().signal);
  const back = dial();
  back.selfTest = () => ({ testedAt: null, verdict: 'SELF_TEST_VERDICT_PASSED', cells: [] });
  expect(await result).toMatchObject({ verdict: 'SELF_TEST_VERDICT_PASSED' });
  back.kill();
  fleet.stop();
});
