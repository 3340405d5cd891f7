import { RunningTime, SystemClock, systemClock } from './clock';

it('waits are not measured by the time of day', () => {
  const now = jest.spyOn(Date, 'now').mockReturnValue(0);
  try {
    const since = systemClock.elapsed();
    now.mockReturnValue(3_600_000);
    expect(systemClock.elapsed() - since).toBeLessThan(600_000);
    expect(systemClock.now()).toBe(3_600_000);
  } finally {
    now.mockRestore();
  }
});

it('a process that was stopped has waited for a moment only', () => {
  let monotonicMs = 1_000;
  const time = new RunningTime(() => monotonicMs);
  for (let second = 0; second < 10; second += 1) {
    monotonicMs += 1_000;
    time.elapsed();
  }
  expect(time.elapsed()).toBe(10_000);
  monotonicMs += 3_600_000;
  expect(time.elapsed()).toBe(15_000);
  monotonicMs += 1_000;
  expect(time.elapsed()).toBe(16_000);
});

it('who sleeps while the process is stopped sleeps on', async () => {
  let monotonicMs = 1_000;
  const waits: number[] = [];
  const clock = new SystemClock(new RunningTime(() => monotonicMs), async (delayMs) => {
    // Stopped for an hour in the second piece.
    monotonicMs += waits.push(delayMs) === 2 ? 3_600_000 : delayMs;
    await Promise.resolve();
  });
  await clock.sleep(900_000);
  expect(waits.length).toBe(180);
  await clock.sleep(700);
  expect(waits.at(-1)).toBe(700);
});
