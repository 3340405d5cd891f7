import type { ConnectRequest__Output } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import { WorkerSession } from './worker-session';

const heartbeatMs = 100;
const heartbeat = { heartbeat: {} } as ConnectRequest__Output;

function sessionWith(requests: () => Promise<IteratorResult<ConnectRequest__Output>>) {
  const seen: string[] = [];
  const session = new WorkerSession(heartbeatMs, () => 0, {
    message: () => seen.push('message'),
    closed: (silent) => seen.push(silent ? 'silent' : 'closed'),
  });
  void session.receive({ next: requests });
  return { session, seen };
}

it('does not take its own standstill for the silence of a worker', async () => {
  // What was sent meanwhile is read after the timers of a standstill are through.
  const { session, seen } = sessionWith(
    () => new Promise((resolve) => setTimeout(() => setImmediate(() => resolve({ value: heartbeat })), heartbeatMs / 2)),
  );
  await new Promise((resolve) => setTimeout(resolve, heartbeatMs));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10 * heartbeatMs);
  await new Promise((resolve) => setTimeout(resolve, heartbeatMs));
  expect(seen).not.toContain('silent');
  expect(session.isOpen).toBe(true);
  session.close();
});

it('takes a worker for lost that was not heard for some heartbeats', async () => {
  const { session, seen } = sessionWith(() => new Promise(() => undefined));
  while (session.isOpen) await new Promise((resolve) => setTimeout(resolve, heartbeatMs));
  expect(seen).toEqual(['silent']);
});
