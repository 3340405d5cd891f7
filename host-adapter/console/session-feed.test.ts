import { getEventListeners } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { SessionStore } from '../catalogue/session-store';
import type { SessionEngine } from '../jobs/session-engine';
import type { SessionRecord } from '../jobs/session-record';
import { SessionFeed } from './session-feed';

test('a feed of many changes keeps nothing at the signal that ends it', async () => {
  const session = { id: 's', kind: 'collect', order: { kind: 'collect' }, sequence: 1, endedAt: null, failure: null } as SessionRecord;
  const changes = 5;
  const gone = new AbortController();
  const listeners: number[] = [];
  const written: string[] = [];
  let wake = () => {};
  const sessions = {
    watch: (_id: string, changed: () => void) => {
      wake = changed;
      return () => undefined;
    },
    tasks: async () => [],
  } as unknown as SessionStore;
  const engine = {
    get: async () => {
      listeners.push(getEventListeners(gone.signal, 'abort').length);
      // The next change comes while this one is sent.
      setImmediate(() => {
        session.sequence += 1;
        if (session.sequence > changes) session.endedAt = new Date().toISOString();
        wake();
      });
      return session;
    },
  } as unknown as SessionEngine;
  const response = {
    writeHead: () => undefined,
    flushHeaders: () => undefined,
    write: (text: string) => written.push(text),
    end: () => undefined,
  } as unknown as ServerResponse;
  await new SessionFeed(sessions, engine).write('s', 0, response, gone.signal);
  expect(written.at(-1)).toContain('event: end');
  expect(written.length).toBeGreaterThan(2);
  expect(Math.max(...listeners)).toBeLessThanOrEqual(1);
  expect(getEventListeners(gone.signal, 'abort')).toEqual([]);
});
