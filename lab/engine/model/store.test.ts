import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Store } from './store';

interface Row {
  readonly id: string;
  readonly value: number;
  readonly note?: string;
}

describe('the engine’s store', () => {
  let directory: string;
  const stores: Store[] = [];
  const open = (): Store => {
    const store = new Store(directory);
    stores.push(store);
    return store;
  };

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'lab-store-'));
  });
  afterEach(() => {
    for (const store of stores.splice(0)) {
      store.close();
    }
    rmSync(directory, { recursive: true, force: true });
  });

  it('has everything again that was written, without being closed', () => {
    const rows = open().collection<Row>('rows');
    rows.put({ id: 'a', value: 1, note: 'x' });
    rows.put({ id: 'b', value: 2 });
    rows.update('a', { value: 3, note: undefined });
    rows.delete('b');
    expect(open().collection<Row>('rows').list()).toEqual([{ id: 'a', value: 3 }]);
    // And once more, from the snapshot that the second opening wrote.
    expect(open().collection<Row>('rows').list()).toEqual([{ id: 'a', value: 3 }]);
  });

  it('drops a torn last line and nothing else', () => {
    const rows = open().collection<Row>('rows');
    rows.put({ id: 'a', value: 1 });
    appendFileSync(join(directory, 'state.log'), '[["rows","b",{"id":"b","val');
    expect(open().collection<Row>('rows').list()).toEqual([{ id: 'a', value: 1 }]);
  });

  it('makes the changes of a transaction durable together', () => {
    const store = open();
    const rows = store.collection<Row>('rows');
    store.transaction(() => {
      rows.put({ id: 'a', value: 1 });
      store.transaction(() => rows.put({ id: 'b', value: 2 }));
      expect(readFileSync(join(directory, 'state.log'), 'utf8')).toBe('');
    });
    expect(readFileSync(join(directory, 'state.log'), 'utf8').split('\n')).toHaveLength(2);
  });

  it('survives a crash between writing the snapshot and emptying the log', () => {
    const rows = open().collection<Row>('rows');
    rows.put({ id: 'a', value: 1 });
    rows.delete('a');
    rows.put({ id: 'a', value: 2 });
    const log = readFileSync(join(directory, 'state.log'), 'utf8');
    open();
    writeFileSync(join(directory, 'state.log'), log);
    expect(open().collection<Row>('rows').list()).toEqual([{ id: 'a', value: 2 }]);
  });

  it('folds a log that has grown long, losing nothing', () => {
    const store = new Store(directory, 1_000);
    stores.push(store);
    const rows = store.collection<Row>('rows');
    for (let value = 0; value < 200; value += 1) {
      rows.put({ id: String(value % 7), value });
      expect(readFileSync(join(directory, 'state.log')).length).toBeLessThan(1_100);
    }
    expect(open().collection<Row>('rows').list()).toEqual(rows.list());
  });

  it('refuses changes after it was closed', () => {
    const store = open();
    store.close();
    expect(() => store.collection<Row>('rows').put({ id: 'a', value: 1 })).toThrow('stopped');
  });
});
