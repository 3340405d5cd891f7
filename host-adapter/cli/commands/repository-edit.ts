import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CommandHost } from '../context';
import { formatBytes } from '../output';
import { durationOf } from '../quantities';
import { bytesOf } from './worker-options';

/** `none`, `lz4`, `zstd` or `zstd:<level>`, as the API has it. */
export function compressionFrom(text: string): { compression: string; compressionLevel?: number } {
  const [, kind = '', level] = /^(none|lz4|zstd)(?::(\d+))?$/.exec(text) ?? [];
  if (kind === '') throw usage(`--compression: "${text}" is none of none, lz4, zstd, zstd:1 to zstd:19`);
  if (level === undefined) return { compression: kind };
  if (kind !== 'zstd' || Number(level) < 1 || Number(level) > 19) throw usage('--compression: only zstd has a level, from 1 to 19');
  return { compression: kind, compressionLevel: Number(level) };
}

interface EditOptions {
  readonly compression?: string;
  readonly softFree?: string;
  readonly hardFree?: string;
  readonly capacity?: string;
  readonly grace?: string;
}

/** repository edit. */
export function repositoryEditCommand(repository: Command, host: CommandHost): void {
  const edit = repository
    .command('edit <repository>')
    .description('change what may change at any time, beside running backups')
    .option('--compression <kind>', 'for new blocks: none, lz4, zstd or zstd:1 to zstd:19')
    .option('--soft-free <size>', 'free space below which a warning is shown; 0: 10 %, at most 100 GiB')
    .option('--hard-free <size>', 'free space below which no backup begins; 0: 2 %, at most 20 GiB')
    .option('--capacity <size>', 'how much it may take, e.g. of a bucket; 0: no limit')
    .option('--grace <duration>', 'how long what was removed can be had back, e.g. 24h or 7d')
    .addHelpText('after', '\nExample:\n  tidemark repository edit main --compression zstd:3 --hard-free 50G');
  host.run<EditOptions>(edit, async ({ api, output }, options, id = '') => {
    const size = (name: string, value: string | undefined, option: string) =>
      value === undefined ? {} : { [name]: bytesOf(option, value) };
    const change = {
      ...(options.compression === undefined ? {} : compressionFrom(options.compression)),
      ...size('softFreeBytes', options.softFree, '--soft-free'),
      ...size('hardFreeBytes', options.hardFree, '--hard-free'),
      ...size('capacityBytes', options.capacity, '--capacity'),
      ...(options.grace === undefined ? {} : { graceMs: durationOf('--grace', options.grace) }),
    };
    if (Object.keys(change).length === 0) throw usage('say what to change: --compression, --soft-free, --hard-free, --capacity, --grace');
    const r = await api.patch<z.infer<typeof S.Repository>>(`/repositories/${encodeURIComponent(id)}`, change);
    output.done(`repository ${r.name} is changed: ${compressionText(r)}, ${spaceText(r)}`, r);
  });
}

/** e.g. zstd:3. */
export function compressionText(r: Pick<z.infer<typeof S.Repository>, 'compression' | 'compressionLevel'>): string {
  return r.compression === 'zstd' ? `zstd:${r.compressionLevel}` : r.compression;
}

/** e.g. 120 GiB free (low: below 200 GiB). */
export function spaceText(r: z.infer<typeof S.Repository>): string {
  if (!r.freeBytesKnown) return 'free space unknown (set --capacity)';
  const free = `${formatBytes(r.freeBytes)} free`;
  if (r.space === 'full') return `${free}: too little, no backup begins below ${formatBytes(r.hardFreeBytes)}`;
  return r.space === 'low' ? `${free}: low, below ${formatBytes(r.softFreeBytes)}` : free;
}
