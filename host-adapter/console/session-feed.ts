import type { ServerResponse } from 'node:http';
import { pause } from '../../common/rpc/call';
import type { SessionStore } from '../catalogue/session-store';
import type { SessionEngine } from '../jobs/session-engine';
import { sessionView, taskView } from './views';

const quietMs = 10_000;
/** Changes within this time are sent together. */
const gatherMs = 200;

/** Writes a session's changes as server-sent events until it has ended or the reader is gone. Only latest states are sent. */
export class SessionFeed {
  constructor(
    private readonly sessions: SessionStore,
    private readonly engine: SessionEngine,
  ) {}

  /** Throws BACKUP_SESSION_NOT_FOUND before anything is written. */
  async write(sessionId: string, afterSequence: number, response: ServerResponse, gone: AbortSignal): Promise<void> {
    await this.engine.get(sessionId);
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
    response.flushHeaders();
    let wake = () => {};
    const unwatch = this.sessions.watch(sessionId, () => wake());
    const stop = () => wake();
    gone.addEventListener('abort', stop, { once: true });
    try {
      for (let after = afterSequence; !gone.aborted;) {
        const changed = new Promise<void>((resolve) => {
          wake = resolve;
        });
        const session = await this.engine.get(sessionId);
        const sequence = session.sequence;
        const tasks = await this.sessions.tasks(sessionId, after <= 0 ? -1 : after);
        for (const task of tasks) send(response, task.sequence, 'task', taskView(task));
        if (sequence > after || after === 0) {
          const view = sessionView(session, await this.sessions.tasks(sessionId));
          after = Math.max(sequence, ...tasks.map((task) => task.sequence));
          send(response, after, 'session', view);
        }
        if (session.endedAt !== null) {
          send(response, after, 'end', sessionView(session, await this.sessions.tasks(sessionId)));
          break;
        }
        // A reader that does not read gets nothing more until it does: states are kept in the catalogue, not here.
        if (response.writableNeedDrain) await drained(response, gone);
        else if (!(await within(changed, quietMs))) response.write(': still here\n\n');
        else await pause(gatherMs, gone).catch(() => undefined);
      }
    } finally {
      unwatch();
      gone.removeEventListener('abort', stop);
      response.end();
    }
  }
}

function send(response: ServerResponse, id: number, event: string, data: unknown): void {
  response.write(`id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

/** Leaves nothing behind at a signal that lives as long as the reader. */
function drained(response: ServerResponse, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      response.removeListener('drain', end);
      gone.removeEventListener('abort', end);
      resolve();
    };
    if (gone.aborted) return resolve();
    response.once('drain', end);
    gone.addEventListener('abort', end, { once: true });
  });
}

/** False when the time was over first. */
async function within(work: Promise<void>, timeoutMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  const done = await Promise.race([work.then(() => true), late]);
  clearTimeout(timer);
  return done;
}
