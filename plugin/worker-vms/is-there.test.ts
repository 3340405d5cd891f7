/** Whether a worker is there, or will be in a moment: right after a restart of the plug-in none has dialled yet, and their tasks go on. */
import { ManualClock } from '../testing/manual-clock';
import type { OperationScope } from '../operations/operation';
import { isThere } from './flow-parts';
import type { FlowParts } from './flow-parts';

function worker(comesAfterMs: number, openedBeforeMs = 0) {
  const clock = new ManualClock();
  const beganAt = clock.elapsed();
  const passed = () => clock.elapsed() - beganAt;
  const workers = {
    awayMs: () => (passed() < comesAfterMs ? undefined : 0),
    get openMs() {
      return openedBeforeMs + passed();
    },
  };
  const scope = { signal: new AbortController().signal } as OperationScope;
  return { asked: isThere({ workers, patience: { clock } } as unknown as FlowParts, scope, 'w1'), clock };
}

it('a worker that dials the restarted plug-in in time is there', async () => {
  const { asked, clock } = worker(3_000);
  await clock.advance(4_000);
  expect(await asked).toBe(true);
});

it('one that does not is not, after ten seconds', async () => {
  const { asked, clock } = worker(60_000);
  let isOver = false;
  void asked.then(() => (isOver = true));
  await clock.advance(9_000);
  expect(isOver).toBe(false);
  await clock.advance(2_000);
  expect(await asked).toBe(false);
});

it('nobody waits for a worker that a plug-in has not seen in all the time since its start', async () => {
  expect(await worker(60_000, 20_000).asked).toBe(false);
});
