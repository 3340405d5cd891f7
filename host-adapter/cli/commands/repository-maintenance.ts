import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CommandContext, CommandHost } from '../context';
import { formatBytes, formatTime } from '../output';
import { durationOf } from '../quantities';
import type { Session } from '../session-view';
import { watchSession } from '../watch-session';
import { bytesOf } from './worker-options';

const dayMs = 86_400_000;
const at = (id: string) => `/repositories/${encodeURIComponent(id)}`;

interface RunOptions {
  readonly rate?: string;
  /** False with --no-watch. */
  readonly watch: boolean;
}

async function run(context: CommandContext, path: string, body: object, { watch }: RunOptions): Promise<number> {
  const session = await context.api.post<Session>(path, body);
  if (watch) return watchSession(context, session.id);
  context.output.done(`session ${session.id} runs; "tidemark session watch ${session.id}" follows it`, session);
  return 0;
}

/** repository: verify, collect, import. */
export function repositoryMaintenanceCommands(repository: Command, host: CommandHost): void {
  const verify = repository
    .command('verify <repository>')
    .description('read everything again and compare; watches to the end')
    .option('--rate <bytes>', 'read at most so many bytes per second, e.g. 50M')
    .option('--period <time>', 'leave alone what was verified within this time, e.g. 30d')
    .option('--no-watch', 'start it and return')
    .addHelpText('after', '\nExample:\n  tidemark repository verify main --rate 50M --period 30d');
  host.run<RunOptions & { period?: string }>(verify, (context, options, id = '') =>
    run(
      context,
      `${at(id)}/verify`,
      {
        ...(options.rate !== undefined && { bytesPerSecond: bytesOf('--rate', options.rate) }),
        ...(options.period !== undefined && { periodDays: durationOf('--period', options.period) / dayMs }),
      },
      options,
    ),
  );

  const collect = repository
    .command('collect <repository>')
    .description('give back what no restore point and no session needs; watches to the end')
    .option('--dry-run', 'find out and tell, change nothing')
    .option('--undo', 'take back what was condemned and is not deleted yet')
    .option('--grace <duration>', "of this run: how long what it condemns can be had back, e.g. 10m; else the repository's grace time")
    .option('--rate <bytes>', 'read and write at most so many bytes per second, e.g. 50M')
    .option('--no-watch', 'start it and return')
    .addHelpText('after', '\nExample:\n  tidemark repository collect main --dry-run\n  tidemark repository collect main --undo');
  host.run<RunOptions & { dryRun?: boolean; undo?: boolean; grace?: string }>(collect, async (context, options, id = '') => {
    if (options.undo === true && options.grace !== undefined) throw usage('--grace goes with no --undo');
    if (options.undo === true) {
      const undone = await context.api.post<z.infer<typeof S.CollectUndone>>(`${at(id)}/collect/undo`);
      context.output.done(`${undone.restoredPacks} packs with ${formatBytes(undone.restoredBytes)} count again`, undone);
      return 0;
    }
    const rate = options.rate === undefined ? {} : { bytesPerSecond: bytesOf('--rate', options.rate) };
    const grace = options.grace === undefined ? {} : { graceMs: durationOf('--grace', options.grace) };
    return run(context, `${at(id)}/collect`, { dryRun: options.dryRun === true, ...rate, ...grace }, options);
  });

  host.run(
    repository
      .command('import <repository>')
      .description('make the catalogue anew from a repository, e.g. after another server removed points')
      .addHelpText(
        'after',
        '\nOf a repository that this server does not know yet: tidemark repository add NAME --attach, which imports it.\n\nExample:\n  tidemark repository import main',
      ),
    async ({ api, output }, _options, id = '') => {
      const found = await api.post<z.infer<typeof S.Imported>>(`${at(id)}/import`);
      const { pointCount, damagedCount, removedCount } = found;
      output.done(
        `${pointCount} points are listed${damagedCount > 0 ? `, ${damagedCount} more are damaged` : ''}${removedCount > 0 ? `; ${removedCount} were removed` : ''}`,
        found,
      );
      return damagedCount > 0 ? 3 : 0;
    },
  );
}

type Repository = z.infer<typeof S.Repository>;

/** What was done for a repository beside backups, as lines of `repository show`. */
export function careLines(r: Repository): (readonly [string, string | number | undefined])[] {
  const last = (what: { doneAt: string | null; failure: { message: string } | null } | undefined) =>
    what && `${what.doneAt === null ? 'never' : formatTime(what.doneAt)}${what.failure ? `; then failed: ${what.failure.message}` : ''}`;
  return [
    ['last verified', last(r.care?.verify)],
    ['verified since', r.verifiedSince === null ? undefined : formatTime(r.verifiedSince)],
    ['last collected', last(r.care?.collect)],
    ['configuration copied', last(r.care?.copy)],
    ['condemned', r.condemnedBytes > 0 ? `${formatBytes(r.condemnedBytes)}, given back after the grace time` : undefined],
    ['removed points', r.removedPointCount > 0 ? r.removedPointCount : undefined],
    ['damaged blocks', r.quarantinedBlockCount > 0 ? `${r.quarantinedBlockCount} in quarantine` : undefined],
  ];
}
