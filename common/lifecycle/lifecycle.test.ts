import { loggerTo } from '../log/logger';
import { Lifecycle, within } from './lifecycle';

const quiet = loggerTo(() => undefined);

function recorder(log: string[], failing?: string) {
  return (name: string) => ({
    name,
    start: async () => {
      if (name === failing) throw new TypeError(name);
      log.push(`start ${name}`);
    },
    stop: async () => {
      log.push(`stop ${name}`);
    },
  });
}

describe('Lifecycle', () => {
  it('starts in order and stops in reverse', async () => {
    const log: string[] = [];
    const lifecycle = new Lifecycle(['a', 'b'].map(recorder(log)), quiet);
    await lifecycle.start();
    await lifecycle.stop();
    await lifecycle.stop();
    expect(log).toEqual(['start a', 'start b', 'stop b', 'stop a']);
  });

  it('stops what had started when one start fails', async () => {
    const log: string[] = [];
    await expect(new Lifecycle(['a', 'b', 'c'].map(recorder(log, 'b')), quiet).start()).rejects.toThrow('b');
    expect(log).toEqual(['start a', 'stop a']);
  });

  it('goes on when one does not stop in time', async () => {
    const log: string[] = [];
    const stuck = { name: 'stuck', start: async () => undefined, stop: () => new Promise<void>(() => undefined) };
    const lifecycle = new Lifecycle([recorder(log)('a'), stuck], quiet, 50);
    await lifecycle.start();
    await lifecycle.stop();
    expect(log).toEqual(['start a', 'stop a']);
  });
});

describe('within', () => {
  it('passes the result on, and rejects when it takes too long', async () => {
    await expect(within(Promise.resolve(1), 1000, 'x')).resolves.toBe(1);
    await expect(within(new Promise(() => undefined), 20, 'x')).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED', meta: { what: 'x' } });
  });
});
