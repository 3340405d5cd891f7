import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import type { CommandHost } from '../context';
import { formatBytes, formatTime } from '../output';
import { listRemoved, pointMaintenanceCommands } from './point-maintenance';
import type { Session } from '../session-view';
import { watchSession } from '../watch-session';

type Point = z.infer<typeof S.Point>;

const at = (id: string) => `/points/${encodeURIComponent(id)}`;

/** point: list, show, verify, remove, undo-remove, hold, release. `point read` is the mover's offline reader, see tidemark.ts. */
export function pointCommands(program: Command, host: CommandHost): void {
  const point = program.command('point').description('restore points');

  const list = point
    .command('list')
    .description('list restore points, newest first')
    .option('--vm <name>')
    .option('--repository <name>')
    .option('--platform <name>')
    .option('--removed', 'those that were removed and are not deleted yet')
    .option('--refresh', 'ask the movers, not the catalogue')
    .option('--limit <n>', 'at most', '200')
    .addHelpText(
      'after',
      '\nExample:\n  tidemark point list --vm web\n  tidemark point list --offline --repository DIR    # without any server',
    );
  interface ListOptions {
    vm?: string;
    repository?: string;
    platform?: string;
    refresh?: boolean;
    removed?: boolean;
    limit: string;
  }
  host.run<ListOptions>(list, async (context, { vm, repository, platform, refresh, removed, limit }) => {
    if (removed === true) return listRemoved(context, repository);
    const { api, output } = context;
    const { items } = await api.get<{ items: Point[] }>('/points', { vm, repository, platform, refresh: refresh === true, limit });
    output.list(
      items,
      [
        { title: 'point', value: (p) => p.id },
        { title: 'VM', value: (p) => p.vmName },
        { title: 'time', value: (p) => (p.damaged ? 'DAMAGED' : formatTime(p.pointInTime)) },
        { title: 'modes', value: (p) => [...new Set(p.disks.map((d) => d.mode))].join(', ') },
        { title: 'disks', align: 'right', value: (p) => p.disks.length },
        { title: 'size', align: 'right', value: (p) => formatBytes(p.disks.reduce((sum, d) => sum + d.sizeBytes, 0)) },
        { title: 'stored', align: 'right', value: (p) => formatBytes(p.disks.reduce((sum, d) => sum + d.counters.storedBytes, 0)) },
        { title: 'consistency', value: (p) => p.consistency },
        { title: 'repository', value: (p) => p.repositoryName },
      ],
      'no restore point',
    );
  });

  host.run(point.command('show <point>').description('show a restore point'), async ({ api, output }, _options, id = '') => {
    const p = await api.get<Point>(at(id));
    output.show(p, [
      ['point', p.id],
      ['VM', `${p.vmName} (${p.vmId})`],
      ['time', formatTime(p.pointInTime)],
      ['repository', p.repositoryName],
      ['job', p.jobName],
      ['session', p.sessionId],
      ['consistency', p.consistency],
      ['held since', p.heldAt === null ? undefined : formatTime(p.heldAt)],
      ['damaged', p.damaged ? p.message : undefined],
      ...p.disks.map(
        (d) =>
          [
            `disk ${d.name}`,
            `${formatBytes(d.sizeBytes)} ${d.format}, ${d.mode}${d.reason ? ` (${d.reason})` : ''}, read ${formatBytes(d.counters.readBytes)}, stored ${formatBytes(d.counters.storedBytes)} (${d.diskId})`,
          ] as const,
      ),
    ]);
  });

  pointMaintenanceCommands(point, host);

  host.run(
    point.command('verify <point>').description('read a restore point again and compare; watches to the end'),
    async (context, _options, id = '') => {
      const session = await context.api.post<Session>(`${at(id)}/verify`);
      return watchSession(context, session.id);
    },
  );
}
