/** Follows a session: bars with rate and time left on a terminal, plain lines elsewhere, nothing there with --json. */
import { MultiBar, Presets } from 'cli-progress';
import type { SingleBar } from 'cli-progress';
import { exitCodeOfState } from './exit-code';
import type { CommandContext } from './context';
import { formatBytes, formatDuration } from './output';
import { describeSession } from './session-view';
import type { SessionDetail, Task } from './session-view';

interface ProgressView {
  task(task: Task): void;
  end(): void;
}

const silent: ProgressView = { task: () => undefined, end: () => undefined };

/** Watches to the end and prints the result; the exit code is the session's. Ctrl-C stops watching, not the session. */
export async function watchSession(context: CommandContext, sessionId: string): Promise<number> {
  const { output } = context;
  const session = await followSession(context, sessionId);
  if (output.json) output.object(session);
  else output.stdout.write(`${describeSession(session)}\n`);
  return exitCodeOfState(session.state);
}

/** Watches as {@link watchSession}, and gives the session without printing it. */
export async function followSession(context: CommandContext, sessionId: string): Promise<SessionDetail> {
  const { api, output, process } = context;
  const view = output.stderr.isTTY ? bars(output.stderr) : output.json ? silent : lines(output.stderr);
  const stop = new AbortController();
  const interrupt = () => {
    stop.abort();
    output.note(`\nnot watching any more; the session goes on (tidemark session watch ${sessionId}, tidemark session stop ${sessionId})`);
  };
  process.on('SIGINT', interrupt);
  try {
    for await (const event of api.events(`/sessions/${sessionId}/events`, stop.signal)) {
      if (event.event === 'task') view.task(event.data as Task);
    }
  } finally {
    view.end();
    process.removeListener('SIGINT', interrupt);
  }
  return api.getPatiently<SessionDetail>(`/sessions/${sessionId}`, stop.signal);
}

/** Bytes looked at so far: what was read or is known to be zero or present. */
function doneBytes(task: Task): number {
  return task.counters.readBytes;
}

/** What has to be looked at, once it is known; the sizes of the disks until then. */
function plannedBytes(task: Task): number {
  return task.counters.plannedBytes || task.totalBytes;
}

function label(task: Task): string {
  return task.waitingReason ? `${task.state} (${task.waitingReason})` : task.state;
}

function bars(stream: NodeJS.WriteStream): ProgressView {
  const multi = new MultiBar(
    { stream, hideCursor: true, clearOnComplete: false, format: '{name} {bar} {percentage}%  {amount}  {rate}  {left}  {state}' },
    Presets.shades_classic,
  );
  const known = new Map<string, { bar: SingleBar; startedMs: number }>();
  return {
    task: (task) => {
      const total = Math.max(plannedBytes(task), 1);
      const entry = known.get(task.id) ?? {
        bar: multi.create(total, 0, { name: task.vmName.padEnd(20).slice(0, 20), amount: '', rate: '', left: '', state: '' }),
        startedMs: Date.now(),
      };
      known.set(task.id, entry);
      const done = doneBytes(task);
      const perMs = done / Math.max(Date.now() - entry.startedMs, 1);
      const over = ['success', 'warning', 'partial', 'skipped', 'failed', 'cancelled'].includes(task.state);
      entry.bar.setTotal(total);
      entry.bar.update(over && plannedBytes(task) === 0 ? total : Math.min(done, total), {
        amount: formatBytes(done).padStart(9),
        rate: `${formatBytes(perMs * 1000)}/s`.padStart(12),
        left: over || perMs === 0 ? '' : formatDuration((total - Math.min(done, total)) / perMs),
        state: label(task),
      });
    },
    end: () => multi.stop(),
  };
}

function lines(stream: NodeJS.WriteStream): ProgressView {
  const last = new Map<string, string>();
  return {
    task: (task) => {
      const total = plannedBytes(task);
      const percent = total > 0 ? Math.floor((doneBytes(task) / total) * 10) * 10 : 0;
      const text = `${task.vmName}: ${label(task)}${total > 0 ? ` ${Math.min(percent, 100)}% of ${formatBytes(total)}` : ''}`;
      if (last.get(task.id) === text) return;
      last.set(task.id, text);
      stream.write(`${text}\n`);
    },
    end: () => undefined,
  };
}
