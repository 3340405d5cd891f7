import { settled } from './certificate';

/** A rotation of which so many peers are missing, each connected or not, as the server tells from one question to the next. */
function rotation(...told: readonly (readonly boolean[])[]) {
  const left = [...told];
  let asked = 0;
  const api = {
    get: (): Promise<never> => {
      asked += 1;
      const missing = (left.shift() ?? []).map((connected, n) => ({ role: 'mover', name: `m${n}`, connected }));
      return Promise.resolve({ missing, overlap: missing.length === 0 ? null : {} } as never);
    },
  };
  const notes: string[] = [];
  const settle = () => settled({ api, output: { note: (text) => notes.push(text) } }, () => Promise.resolve());
  return { settle, notes, asked: () => asked };
}

it('waits for those who are connected, and not for those who are off', async () => {
  const at = rotation([true, false], [true, false], [false], [false]);
  expect(await at.settle()).toMatchObject({ missing: [{ connected: false }], overlap: {} });
  expect([at.asked(), at.notes]).toEqual([
    4,
    ['waiting for 2 processes: mover m0, mover m1 (not connected)', 'waiting for 1 processes: mover m0 (not connected)'],
  ]);
});

it('waits for everybody when the server had stood still, and nobody seems connected', async () => {
  const at = rotation([true, true], [false, false], [true], [false], []);
  expect(await at.settle()).toMatchObject({ missing: [], overlap: null });
  expect(at.asked()).toBe(5);
});
