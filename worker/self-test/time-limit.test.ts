import { TimeLimit } from './time-limit';

it('is not over for a machine that stood still, before what came meanwhile could be read', async () => {
  let isOver = false;
  const ended = new Promise<void>((resolve) => {
    const limit = new TimeLimit(320, () => {
      isOver = limit.isOver;
      resolve();
    });
  });
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
  expect(isOver).toBe(false);
  await ended;
  expect(isOver).toBe(true);
});
