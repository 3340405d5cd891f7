import { SerialQueues } from './serial-queue';

describe('queues by key', () => {
  test('one after the other for one key, without waiting for another', async () => {
    const queues = new SerialQueues();
    const told: string[] = [];
    let letGo: () => void = () => undefined;
    const stuck = queues.run('a', async () => {
      await new Promise<void>((resolve) => (letGo = resolve));
      told.push('a1');
    });
    const next = queues.run('a', async () => void told.push('a2'));
    await queues.run('b', async () => void told.push('b'));
    expect([told, queues.isBusy('a'), queues.isBusy('b'), queues.keys]).toEqual([['b'], true, false, ['a']]);
    letGo();
    await Promise.all([stuck, next]);
    expect([told, queues.keys]).toEqual([['b', 'a1', 'a2'], []]);
  });

  test('a failure is its own alone', async () => {
    const queues = new SerialQueues();
    const failing = queues.run('a', () => Promise.reject(new Error('no')));
    const fine = queues.run('a', async () => 1);
    await expect(failing).rejects.toThrow('no');
    expect(await fine).toBe(1);
    expect(queues.isBusy('a')).toBe(false);
  });
});
