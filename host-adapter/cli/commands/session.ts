import type { Command } from 'commander';
import type { CommandHost } from '../context';
import { exitCodeOfState } from '../exit-code';
import { describeSession, sessionColumns } from '../session-view';
import type { Session, SessionDetail } from '../session-view';
import { watchSession } from '../watch-session';

const at = (id: string) => `/sessions/${encodeURIComponent(id)}`;

/** session: list, show, watch, stop, retry. */
export function sessionCommands(program: Command, host: CommandHost): void {
  const session = program.command('session').description('runs of jobs, restores, verifications, and what was done to workers');

  const list = session
    .command('list')
    .description('list sessions, newest first')
    .option('--job <name>')
    .option('--kind <kind>', 'backup, restore, verify or worker')
    .option('--state <state>')
    .option('--limit <n>', 'at most', '50');
  host.run<{ job?: string; kind?: string; state?: string; limit: string }>(list, async ({ api, output }, { job, kind, state, limit }) => {
    const { items } = await api.get<{ items: Session[] }>('/sessions', { job, kind, state, limit });
    output.list(items, sessionColumns, 'no session yet');
  });

  host.run(
    session.command('show <session>').description('show a session; the exit code is its result'),
    async ({ api, output }, _options, id = '') => {
      const found = await api.get<SessionDetail>(at(id));
      if (output.json) output.object(found);
      else output.stdout.write(`${describeSession(found)}\n`);
      return found.endedAt === null ? 0 : exitCodeOfState(found.state);
    },
  );

  host.run(session.command('watch <session>').description('follow a session to its end'), (context, _options, id = '') =>
    watchSession(context, id),
  );

  host.run(
    session.command('stop <session>').description('cancel what still runs; finished VMs keep their points'),
    async ({ api, output }, _options, id = '') => {
      const stopped = await api.post<Session>(`${at(id)}/stop`);
      output.done(`session ${id} is stopping`, stopped);
    },
  );

  host.run(session.command('retry <session>').description('run again what did not succeed'), async (context, _options, id = '') => {
    const next = await context.api.post<Session>(`${at(id)}/retry`);
    return watchSession(context, next.id);
  });
}
