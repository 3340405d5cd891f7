import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import type { CommandContext, CommandHost } from '../context';
import { formatTime } from '../output';

type Point = z.infer<typeof S.Point>;
type Removed = z.infer<typeof S.RemovedPoint>;

const at = (id: string) => `/points/${encodeURIComponent(id)}`;

/** point: remove, undo-remove, hold, release. */
export function pointMaintenanceCommands(point: Command, host: CommandHost): void {
  host.run(
    point
      .command('remove <point>')
      .description('remove a restore point; it can be taken back until a collection deletes it')
      .addHelpText('after', '\nExample:\n  tidemark point remove 3f0c…\n  tidemark point undo-remove 3f0c…'),
    async ({ api, output }, _options, id = '') => {
      const removed = await api.post<z.infer<typeof S.PointRemoved>>(`${at(id)}/remove`);
      output.done(`point ${id} is removed; "tidemark point undo-remove ${id}" takes it back`, { id, ...removed });
    },
  );
  host.run<{ repository?: string }>(
    point
      .command('undo-remove <point>')
      .description('take a removal back')
      .option('--repository <name>', 'where it is; all are looked at otherwise'),
    async ({ api, output }, { repository }, id = '') => {
      const p = await api.post<Point>(`${at(id)}/undo-remove`, repository === undefined ? {} : { repository });
      output.done(`point ${id} of ${p.vmName} is there again`, p);
    },
  );
  host.run(
    point.command('hold <point>').description('keep a restore point whatever happens'),
    async ({ api, output }, _options, id = '') => {
      output.done(`point ${id} is held; "tidemark point release ${id}" lets it go`, await api.post<Point>(`${at(id)}/hold`));
    },
  );
  host.run(
    point.command('release <point>').description('let a restore point be removed again'),
    async ({ api, output }, _options, id = '') => {
      output.done(`point ${id} is not held any more`, await api.post<Point>(`${at(id)}/release`));
    },
  );
}

/** `point list --removed`. */
export async function listRemoved({ api, output }: CommandContext, repository: string | undefined): Promise<void> {
  const { items } = await api.get<{ items: Removed[] }>('/removed-points', { repository });
  output.list(
    items,
    [
      { title: 'point', value: (r) => r.point.id },
      { title: 'VM', value: (r) => r.point.vmName },
      { title: 'time', value: (r) => formatTime(r.point.pointInTime) },
      { title: 'removed', value: (r) => formatTime(r.removedAt) },
      { title: 'deleted', value: (r) => (r.deletedAfter === null ? 'not before a collection' : `after ${formatTime(r.deletedAfter)}`) },
      { title: 'repository', value: (r) => r.point.repositoryName },
    ],
    'no point was removed',
  );
}
