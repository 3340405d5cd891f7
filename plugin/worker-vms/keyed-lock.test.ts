import { settled } from '../testing/manual-clock';
import { KeyedLock } from './keyed-lock';

function gate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

it('lets one at a time in, in the order of asking, and each key by itself', async () => {
  const lock = new KeyedLock();
  const first = gate();
  const seen: string[] = [];
  const work = (name: string, until?: Promise<void>) => async () => {
    seen.push(name);
    await until;
  };
  const all = [
    lock.run('a', work('a1', first.opened)),
    lock.run('a', () => Promise.reject(new Error('a2'))),
    lock.run('a', work('a3')),
    lock.run('b', work('b1')),
  ];
  await settled();
  expect(seen).toEqual(['a1', 'b1']);
  first.open();
  expect((await Promise.allSettled(all)).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
  expect(seen).toEqual(['a1', 'b1', 'a3']);
  await settled();
  expect(lock.isTaken('a')).toBe(false);
});

it('lets go at once of who is cancelled while it waits, and nobody past the one before', async () => {
  const lock = new KeyedLock();
  const first = gate();
  const aborter = new AbortController();
  const seen: string[] = [];
  const held = lock.run('a', () => first.opened);
  const cancelled = lock.run('a', () => Promise.resolve(seen.push('cancelled')), aborter.signal);
  const last = lock.run('a', () => Promise.resolve(seen.push('last')));
  aborter.abort();
  await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
  await settled();
  expect([seen, lock.isTaken('a')]).toEqual([[], true]);
  first.open();
  await Promise.all([held, last]);
  expect(seen).toEqual(['last']);
});
