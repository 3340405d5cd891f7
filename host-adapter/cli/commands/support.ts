import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import type { CommandHost } from '../context';
import { ExitCode } from '../exit-code';
import { formatTime } from '../output';
import type { Column } from '../output';

type Doctor = z.infer<typeof S.Doctor>;
type JanitorReport = z.infer<typeof S.JanitorReport>;
type Leftover = JanitorReport['leftovers'][number];
type Event = z.infer<typeof S.Event>;
type Audit = z.infer<typeof S.AuditEntry>;

const leftoverColumns: readonly Column<Leftover>[] = [
  { title: 'state', value: (l) => l.state },
  { title: 'kind', value: (l) => l.kind },
  { title: 'id', value: (l) => l.id },
  { title: 'found', value: (l) => formatTime(l.foundAt) },
  { title: 'settled', value: (l) => formatTime(l.settledAt) },
  { title: 'message', value: (l) => l.message || undefined },
];

/** janitor, event, audit, doctor. */
export function supportCommands(program: Command, host: CommandHost): void {
  const janitor = program.command('janitor').description('what crashes left behind in the engines');
  host.run(janitor.command('report').description('what was found and what became of it'), async ({ api, output }) => {
    const report = await api.get<JanitorReport>('/janitor');
    if (output.json) output.object(report);
    else output.list(report.leftovers, leftoverColumns, 'nothing of ours is left in any engine');
    return report.leftovers.some((l) => l.state === 'stuck') ? ExitCode.warnings : ExitCode.success;
  });
  host.run(janitor.command('sweep').description('look and clean up now'), async ({ api, output }) => {
    const report = await api.post<JanitorReport>('/janitor/sweep');
    if (output.json) output.object(report);
    else output.list(report.leftovers, leftoverColumns, 'nothing of ours is left in any engine');
    return report.leftovers.some((l) => l.state !== 'removed') ? ExitCode.warnings : ExitCode.success;
  });

  const event = program.command('event').description('what happened');
  host.run<{ severity?: string; limit: string }>(
    event
      .command('list')
      .description('list events, newest first')
      .option('--severity <level>', 'info, warning or error')
      .option('--limit <n>', 'at most', '50'),
    async ({ api, output }, { severity, limit }) => {
      const { items } = await api.get<{ items: Event[] }>('/events', { severity, limit });
      output.list(
        items,
        [
          { title: 'time', value: (e) => formatTime(e.at) },
          { title: 'severity', value: (e) => e.severity },
          { title: 'source', value: (e) => e.source },
          { title: 'code', value: (e) => e.code },
          { title: 'message', value: (e) => e.message },
        ],
        'nothing happened yet',
      );
    },
  );

  const audit = program.command('audit').description('who changed what');
  host.run<{ limit: string }>(
    audit.command('list').description('list changes, newest first').option('--limit <n>', 'at most', '50'),
    async ({ api, output }, { limit }) => {
      const { items } = await api.get<{ items: Audit[] }>('/audit', { limit });
      output.list(
        items,
        [
          { title: 'time', value: (a) => formatTime(a.at) },
          { title: 'user', value: (a) => a.user },
          { title: 'action', value: (a) => a.action },
          { title: 'target', value: (a) => a.target },
          { title: 'status', align: 'right', value: (a) => a.status },
          { title: 'from', value: (a) => a.remoteAddress },
        ],
        'nothing was changed yet',
      );
    },
  );

  host.run(program.command('doctor').description('check the whole installation'), async ({ api, output }) => {
    const doctor = await api.get<Doctor>('/doctor');
    if (output.json) output.object(doctor);
    else {
      output.list(
        doctor.checks,
        [
          { title: '', value: (c) => (c.passed ? 'ok' : 'FAILED') },
          { title: 'check', value: (c) => c.check },
          { title: 'found', value: (c) => c.message },
          { title: 'what to do', value: (c) => (c.passed ? undefined : c.advice) },
        ],
        'nothing to check',
      );
    }
    return doctor.passed ? ExitCode.success : ExitCode.failed;
  });
}
