import { EngineErrors } from '../engine/engine-errors';
import { ManualClock, settled } from '../testing/manual-clock';
import { Patience } from './patience';

const hour = 3_600_000;
const away = () => Promise.reject(EngineErrors.ENGINE_UNAVAILABLE({ engine: 'e', problem: 'restarts' }));
const locked = () => Promise.reject(EngineErrors.ENGINE_CONFLICT({ operation: 'POST', detail: 'the disk is locked' }));
const everyMs = () => 1000;

/** Waits that each last a minute, by the name of the method. */
const waits: Record<string, (patience: Patience) => Promise<unknown>> = {
  whileAway: (patience) => patience.whileAway(undefined, away, 60_000),
  whileConflict: (patience) => patience.whileConflict({ deadlineMs: 60_000 }, locked),
  poll: (patience) => patience.poll({ deadlineMs: 60_000, everyMs }, () => Promise.resolve(undefined)),
};

describe.each(Object.keys(waits))('%s', (name) => {
  it.each([
    ['forward', hour],
    ['back', -hour],
  ])('lasts as long as it is to when the clock of the machine is set %s', async (_, byMs) => {
    const clock = new ManualClock();
    let ended = false;
    const end = waits[name]!(new Patience(clock)).then(
      () => (ended = true),
      () => (ended = true),
    );
    await settled();
    clock.set(byMs);
    await clock.advance(30_000);
    expect(ended).toBe(false);
    await clock.advance(45_000);
    expect(ended).toBe(true);
    await end;
  });
});
