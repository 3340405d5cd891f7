import { RateLimit } from './rate-limit';

describe('rate limit', () => {
  it('lets everything pass at once when there is no limit', async () => {
    await new RateLimit(0).take(Number.MAX_SAFE_INTEGER);
  });

  it('keeps to the rate over a while', async () => {
    let moved = 0;
    const limit = new RateLimit(1_000_000);
    const startedAt = performance.now();
    while (moved < 300_000) {
      await limit.take(30_000);
      moved += 30_000;
    }
    // A quarter of a second's worth may pass ahead; the timer may wake a millisecond early each time.
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual((moved / 1_000_000) * 1000 - 250 - 30 - 10);
  });

  it('stops waiting when it is cancelled', async () => {
    const aborter = new AbortController();
    const limit = new RateLimit(1);
    await limit.take(1).catch(() => undefined);
    const failure = expect(limit.take(1_000_000, aborter.signal)).rejects.toMatchObject({ code: 'CANCELLED' });
    aborter.abort();
    await failure;
  });
});
