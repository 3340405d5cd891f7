import { loggerTo } from '../../common/log/logger';
import { untilStored } from './store-patience';

const storeError = (code: string) => Object.assign(new Error(code), { code });

describe('a catalogue that cannot be written', () => {
  const told: string[] = [];
  const logger = loggerTo((line) => told.push(JSON.stringify(line)));
  beforeEach(() => void (told.length = 0));
  const patience = (signal = new AbortController().signal) => ({ signal, logger, everyMs: 1 });

  it('is waited for, and told of once', async () => {
    const failures = ['SQLITE_FULL', 'SQLITE_FULL', 'SQLITE_IOERR_WRITE', 'SQLITE_BUSY'].map(storeError);
    const work = async () => {
      const failure = failures.shift();
      if (failure) throw failure;
      return 'stored';
    };
    expect(await untilStored(work, patience())).toBe('stored');
    expect(told).toHaveLength(3);
  });

  it.each(['SQLITE_CONSTRAINT_UNIQUE', 'SQLITE_CORRUPT', 'X'])('is not waited for because of %s', async (code) => {
    await expect(untilStored(() => Promise.reject(storeError(code)), patience())).rejects.toMatchObject({ code });
  });

  it('does not keep the server from stopping', async () => {
    const stop = new AbortController();
    const waiting = untilStored(() => Promise.reject(storeError('SQLITE_FULL')), patience(stop.signal));
    stop.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'SQLITE_FULL' });
  });
});
