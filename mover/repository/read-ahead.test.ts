import { setImmediate as turn } from 'node:timers/promises';
import { readAhead } from './read-ahead';

/** Ends reads when it is told to, in whatever order. */
function slowStore() {
  const ends = new Map<number, (failure?: unknown) => void>();
  const begun: number[] = [];
  const read = (item: number) => {
    begun.push(item);
    return new Promise<number>((resolve, reject) => ends.set(item, (failure) => (failure === undefined ? resolve(item) : reject(failure))));
  };
  return { begun, read, end: (item: number, failure?: unknown) => ends.get(item)?.(failure) };
}

describe('reading ahead', () => {
  test('gives everything in its order, however reads end, and never has more under way than told', async () => {
    const { begun, read, end } = slowStore();
    const found: number[] = [];
    const all = (async () => {
      for await (const one of readAhead([1, 2, 3, 4, 5], 2, read)) found.push(one);
    })();
    await turn();
    expect(begun).toEqual([1, 2]);
    end(2);
    await turn();
    expect([found, begun]).toEqual([[], [1, 2]]);
    end(1);
    await turn();
    expect([found, begun]).toEqual([
      [1, 2],
      [1, 2, 3, 4],
    ]);
    for (const item of [4, 3]) end(item);
    await turn();
    end(5);
    await all;
    expect(found).toEqual([1, 2, 3, 4, 5]);
  });

  test('a failure is thrown in its turn, after what is under way has ended', async () => {
    const { begun, read, end } = slowStore();
    const found: number[] = [];
    let isOver = false;
    const all = (async () => {
      for await (const one of readAhead([1, 2, 3, 4], 3, read)) found.push(one);
    })().finally(() => (isOver = true));
    const failed = expect(all).rejects.toThrow('broken');
    await turn();
    end(2, new Error('broken'));
    await turn();
    end(1);
    await turn();
    expect([found, begun, isOver]).toEqual([[1], [1, 2, 3, 4], false]);
    for (const item of [3, 4]) end(item);
    await failed;
    expect(found).toEqual([1]);
  });

  test('who stops early leaves nothing running', async () => {
    const { begun, read, end } = slowStore();
    const first = (async () => {
      for await (const one of readAhead([1, 2, 3], 2, read)) return one;
      return 0;
    })();
    await turn();
    for (const item of [1, 2]) end(item);
    expect(await first).toBe(1);
    expect(begun).toEqual([1, 2]);
  });
});
