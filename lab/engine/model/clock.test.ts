import { EngineClock } from './clock';

describe('the engine’s clock', () => {
  let clock: EngineClock;
  const errors: unknown[] = [];

  beforeEach(() => {
    jest.useFakeTimers();
    errors.length = 0;
    clock = new EngineClock(10, (error) => errors.push(error));
  });
  afterEach(() => {
    clock.stop();
    jest.useRealTimers();
  });

  it('passes factor times as fast', async () => {
    const done = jest.fn();
    clock.after(1_000, done);
    await jest.advanceTimersByTimeAsync(99);
    expect(done).not.toHaveBeenCalled();
    await jest.advanceTimersByTimeAsync(1);
    expect(done).toHaveBeenCalledTimes(1);
    expect(clock.elapsedMs(Date.now() - 50)).toBe(500);
  });

  it('polls after 1 s, then ever more rarely up to every 10 s, and starts over when told', async () => {
    const start = Date.now();
    const at: number[] = [];
    clock.poll(() => {
      at.push((Date.now() - start) * 10);
      return at.length === 6 ? 'soon' : at.length === 8 ? 'done' : 'again';
    });
    await jest.advanceTimersByTimeAsync(10_000);
    expect(at).toEqual([1_000, 3_000, 7_000, 15_000, 25_000, 35_000, 36_000, 38_000]);
  });

  it('goes on polling after a failed tick, and never after it was cancelled', async () => {
    let ticks = 0;
    const poller = clock.poll(() => {
      ticks += 1;
      throw new Error('tick');
    });
    await jest.advanceTimersByTimeAsync(400);
    expect(ticks).toBe(2);
    expect(errors).toHaveLength(2);
    poller.cancel();
    await jest.advanceTimersByTimeAsync(10_000);
    expect(ticks).toBe(2);
  });

  it('fires nothing once stopped', async () => {
    const work = jest.fn();
    clock.after(10, work);
    clock.stop();
    clock.after(10, work);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(work).not.toHaveBeenCalled();
  });
});
