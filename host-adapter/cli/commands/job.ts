import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CommandHost } from '../context';
import { formatTime } from '../output';
import type { Session } from '../session-view';
import { watchSession } from '../watch-session';

type Job = z.infer<typeof S.Job>;
type Vm = z.infer<typeof S.Vm>;

interface JobOptions {
  vm?: string[];
  exclude?: string[];
  excludeDisk?: string[];
  repository?: string;
  schedule?: string;
  timeZone?: string;
  description?: string;
  keepDays?: string;
  keepPoints?: string;
  concurrentVms?: string;
  disksPerVm?: string;
  requireConsistency?: boolean;
  transport?: string;
  dryRun?: boolean;
}

const at = (id: string) => `/jobs/${encodeURIComponent(id)}`;
const collect = (value: string, before: string[] = []) => [...before, value];

function settings(command: Command): Command {
  return command
    .option('--vm <selector>', 'VMs to back up, repeatable: web, name:web*, tag:prod, cluster:east, "*"', collect)
    .option('--exclude <selector>', 'VMs to leave out, repeatable', collect)
    .option('--exclude-disk <id>', 'disks to leave out, repeatable', collect)
    .option('--schedule <cron>', 'e.g. "0 22 * * *"; "none" takes it away')
    .option('--time-zone <name>', "of the schedule; the server's own unless given")
    .option('--description <text>')
    .option('--keep-days <n>')
    .option('--keep-points <n>')
    .option('--concurrent-vms <n>')
    .option('--disks-per-vm <n>')
    .option('--require-consistency', 'fail rather than take a crash-consistent point')
    .option('--transport <how>', 'how workers get at disks: auto, image-transfer or attachment');
}

function body(options: JobOptions): Record<string, unknown> {
  const some = (value: unknown, entry: object) => (value === undefined ? {} : entry);
  if ((options.keepDays === undefined) !== (options.keepPoints === undefined)) throw usage('--keep-days and --keep-points go together');
  if ((options.concurrentVms === undefined) !== (options.disksPerVm === undefined))
    throw usage('--concurrent-vms and --disks-per-vm go together');
  return {
    ...some(options.vm, { selector: { include: options.vm, exclude: options.exclude ?? [] } }),
    ...some(options.excludeDisk, { excludedDiskIds: options.excludeDisk }),
    ...some(options.repository, { repository: options.repository }),
    ...some(options.description, { description: options.description }),
    ...some(options.schedule, {
      schedule: options.schedule === 'none' ? null : { cron: options.schedule, ...some(options.timeZone, { timeZone: options.timeZone }) },
    }),
    ...some(options.keepDays, { retention: { days: Number(options.keepDays), minimumPoints: Number(options.keepPoints) } }),
    ...some(options.concurrentVms, { limits: { concurrentVms: Number(options.concurrentVms), disksPerVm: Number(options.disksPerVm) } }),
    ...some(options.requireConsistency, { requireConsistency: options.requireConsistency }),
    ...some(options.transport, { transport: options.transport }),
  };
}

/** job: create, list, show, edit, run, enable, disable, remove. */
export function jobCommands(program: Command, host: CommandHost): void {
  const job = program.command('job').description('what is backed up, where to, and when');

  const create = settings(job.command('create <name>').description('define a job').requiredOption('--repository <name>'))
    .option('--dry-run', 'show the VMs it would take, and make nothing')
    .addHelpText(
      'after',
      '\nExample:\n  tidemark job create nightly --repository main --vm tag:prod --exclude name:test* --schedule "0 22 * * *"',
    );
  host.run<JobOptions>(create, async ({ api, output }, options, name = '') => {
    if (!options.vm) throw usage('name at least one VM or selector with --vm');
    const definition = { name, ...body(options) };
    if (options.dryRun === true) {
      const { items } = await api.post<{ items: Vm[] }>('/jobs/preview', { selector: definition['selector' as keyof typeof definition] });
      return output.list(
        items,
        [
          { title: 'VM', value: (v) => v.name },
          { title: 'cluster', value: (v) => v.clusterName },
        ],
        'no VM matches',
      );
    }
    const made = await api.post<Job>('/jobs', definition);
    output.done(`job ${made.name} is defined${made.nextRunAt ? `; next run ${formatTime(made.nextRunAt)}` : ''}`, made);
  });

  host.run(job.command('list').description('list jobs'), async ({ api, output }) => {
    const { items } = await api.get<{ items: Job[] }>('/jobs');
    output.list(
      items,
      [
        { title: 'job', value: (j) => j.name },
        { title: 'enabled', value: (j) => (j.enabled ? 'yes' : 'no') },
        { title: 'repository', value: (j) => j.repositoryName },
        { title: 'VMs', value: (j) => j.selector.include.join(' | ') },
        { title: 'schedule', value: (j) => j.schedule?.cron },
        { title: 'next run', value: (j) => formatTime(j.nextRunAt) },
        { title: 'last', value: (j) => j.lastSessionState ?? undefined },
      ],
      'there is no job; run: tidemark job create',
    );
  });

  host.run(job.command('show <job>').description('show a job'), async ({ api, output }, _options, id = '') => {
    const j = await api.get<Job>(at(id));
    output.show(j, [
      ['job', j.name],
      ['description', j.description],
      ['enabled', j.enabled ? 'yes' : 'no'],
      ['repository', j.repositoryName],
      ['VMs', j.selector.include.join(' | ')],
      ['left out', j.selector.exclude.join(' | ')],
      ['schedule', j.schedule ? `${j.schedule.cron} ${j.schedule.timeZone ?? ''}` : undefined],
      ['next run', j.nextRunAt ? formatTime(j.nextRunAt) : undefined],
      ['keeps', `${j.retention.days} days and at least ${j.retention.minimumPoints} points`],
      ['transport', j.transport],
      ['limits', `${j.limits.concurrentVms} VMs, ${j.limits.disksPerVm} disks of each`],
      ['last session', j.lastSessionId ? `${j.lastSessionId} ${j.lastSessionState ?? ''} ${formatTime(j.lastSessionAt)}` : undefined],
    ]);
  });

  host.run<JobOptions>(
    settings(job.command('edit <job>').description('change a job').option('--repository <name>')),
    async ({ api, output }, options, id = '') => {
      const j = await api.patch<Job>(at(id), body(options));
      output.done(`job ${j.name} is changed`, j);
    },
  );

  const run = job
    .command('run <job>')
    .description('run a job now and watch it to the end')
    .option('--full', 'read everything, even when changes are known')
    .option('--vm <name>', "only these of the job's VMs, repeatable", collect)
    .option('--no-watch', 'start it and return')
    .addHelpText('after', '\nExample:\n  tidemark job run nightly --vm web');
  host.run<{ full?: boolean; vm?: string[]; watch: boolean }>(run, async (context, options, id = '') => {
    const session = await context.api.post<Session>(`${at(id)}/run`, { full: options.full === true, vms: options.vm ?? [] });
    if (!options.watch) return context.output.done(`session ${session.id} is running`, session);
    return watchSession(context, session.id);
  });

  for (const verb of ['enable', 'disable'] as const) {
    host.run(job.command(`${verb} <job>`).description(`${verb} the schedule of a job`), async ({ api, output }, _options, id = '') => {
      const j = await api.post<Job>(`${at(id)}/${verb}`);
      output.done(`job ${j.name} is ${verb}d`, j);
    });
  }

  host.run(job.command('remove <job>').description('remove a job; its restore points stay'), async ({ api, output }, _options, id = '') => {
    await api.delete(at(id));
    output.done(`job ${id} is removed; its restore points stay`, { id });
  });
}
