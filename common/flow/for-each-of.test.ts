import { setImmediate } from 'node:timers/promises';
import { forEachOf } from './for-each-of';

describe('forEachOf', () => {
  it('works on every item, never on more at a time than told', async () => {
    const done: number[] = [];
    let running = 0;
    let most = 0;
    await forEachOf([...Array(20).keys()], 3, async (item) => {
      most = Math.max(most, ++running);
      await setImmediate();
      running--;
      done.push(item);
    });
    expect(done.sort((a, b) => a - b)).toEqual([...Array(20).keys()]);
    expect(most).toBe(3);
  });

  it('begins nothing more after a failure, lets what runs end, and throws it', async () => {
    const done: number[] = [];
    const failing = forEachOf([1, 2, 3, 4, 5], 2, async (item) => {
      await setImmediate();
      if (item === 1) throw new Error('one');
      await setImmediate();
      done.push(item);
    });
    await expect(failing).rejects.toThrow('one');
    expect(done).toEqual([2]);
  });
});
