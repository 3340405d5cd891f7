import fs from 'node:fs';
import type { Command } from 'commander';
import type { z } from 'zod';
import { readAccessKeyFile } from '../../../common/secrets/access-key-file';
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

/** The access key of a bucket, or user and password of a share, from a file, with the CA beside it; as the API has it. */
export function accessOf(keyFile: string, caFile: string | undefined): object {
  const { accessKeyId, secretAccessKey } = readAccessKeyFile(keyFile, '--access-key-file');
  return {
    accessKeyId,
    secretAccessKey: secretAccessKey.reveal(),
    ...(caFile === undefined ? {} : { caPem: readText(caFile, '--ca') }),
  };
}

function readText(file: string, field: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    throw usage(`${field}: ${(error as Error).message}`);
  }
}

interface EditOptions {
  readonly compression?: string;
  readonly softFree?: string;
  readonly hardFree?: string;
  readonly capacity?: string;
  readonly grace?: string;
  readonly gateway: readonly string[];
  readonly addGateway: readonly string[];
  readonly removeGateway: readonly string[];
  readonly preferGateway: readonly string[];
  readonly accessKeyFile?: string;
  readonly ca?: string;
}

/** A list where a single word may stand for none or for all. */
function listOrWord<T>(option: string, values: readonly string[], words: Readonly<Record<string, T>>): T | undefined {
  const [word] = values.filter((value) => Object.hasOwn(words, value));
  if (word === undefined) return undefined;
  if (values.length > 1) throw usage(`${option} ${word} goes with no other ${option}`);
  return words[word];
}

function gatewaysFrom({ gateway, addGateway, removeGateway, preferGateway }: EditOptions): object {
  if (gateway.length > 0 && addGateway.length + removeGateway.length > 0)
    throw usage('--gateway says which there are from now on; it goes neither with --add-gateway nor with --remove-gateway');
  const word = listOrWord<readonly string[] | null>('--gateway', gateway, { any: [], none: null });
  const nobody = listOrWord<readonly object[]>('--prefer-gateway', preferGateway, { none: [] });
  const preferred = preferGateway.map((text) => {
    const [name = '', ...cluster] = text.split('@');
    return cluster.length === 0 ? { gateway: name } : { gateway: name, cluster: cluster.join('@') };
  });
  return {
    ...(gateway.length > 0 && { gateways: word === undefined ? gateway : word }),
    ...(addGateway.length > 0 && { addGateways: addGateway }),
    ...(removeGateway.length > 0 && { removeGateways: removeGateway }),
    ...(preferGateway.length > 0 && { preferredGateways: nobody ?? preferred }),
  };
}

/** repository edit. */
export function repositoryEditCommand(repository: Command, host: CommandHost): void {
  const collect = (value: string, before: readonly string[]) => [...before, value];
  const edit = repository
    .command('edit <repository>')
    .description('change what may change at any time, beside running backups')
    .option('--compression <kind>', 'for new blocks: none, lz4, zstd or zstd:1 to zstd:19')
    .option('--soft-free <size>', 'free space below which a warning is shown; 0: 10 %, at most 100 GiB')
    .option('--hard-free <size>', 'free space below which no backup begins; 0: 2 %, at most 20 GiB')
    .option('--capacity <size>', 'how much it may take, e.g. of a bucket; 0: no limit')
    .option('--grace <duration>', 'how long what was removed can be had back, e.g. 24h or 7d')
    .option('--gateway <id>', 'the gateways from now on, repeat for more; "any" for every gateway, "none" for none', collect, [])
    .option('--add-gateway <id>', 'one more that may carry data to it, repeat for more', collect, [])
    .option('--remove-gateway <id>', 'one that takes no new sessions of it; what it carries ends well', collect, [])
    .option('--prefer-gateway <id[@cluster]>', 'among gateways that are as good, for a cluster or for all, best first; "none"', collect, [])
    .option('--access-key-file <file>', 'another access key (user and password of a share), tried first: two lines, the id and its secret')
    .option('--ca <file>', 'with --access-key-file: PEM of the CA that signed the certificate of the server')
    .addHelpText(
      'after',
      '\nExample:\n  tidemark repository edit main --compression zstd:3 --hard-free 50G' +
        '\n  tidemark repository edit cloud --access-key-file access\n  tidemark repository edit cloud --add-gateway west --prefer-gateway west@Level46',
    );
  host.run<EditOptions>(edit, async ({ api, output }, options, id = '') => {
    const size = (name: string, value: string | undefined, option: string) =>
      value === undefined ? {} : { [name]: bytesOf(option, value) };
    if (options.ca !== undefined && options.accessKeyFile === undefined) throw usage('--ca goes with --access-key-file');
    const change = {
      ...(options.compression === undefined ? {} : compressionFrom(options.compression)),
      ...size('softFreeBytes', options.softFree, '--soft-free'),
      ...size('hardFreeBytes', options.hardFree, '--hard-free'),
      ...size('capacityBytes', options.capacity, '--capacity'),
      ...(options.grace === undefined ? {} : { graceMs: durationOf('--grace', options.grace) }),
      ...gatewaysFrom(options),
      ...(options.accessKeyFile === undefined ? {} : { access: accessOf(options.accessKeyFile, options.ca) }),
    };
    if (Object.keys(change).length === 0)
      throw usage(
        'say what to change: --compression, --soft-free, --hard-free, --capacity, --grace, --gateway, --add-gateway, --remove-gateway, --prefer-gateway, --access-key-file',
      );
    const r = await api.patch<z.infer<typeof S.RepositoryChanged>>(`/repositories/${encodeURIComponent(id)}`, change);
    const key = options.accessKeyFile === undefined ? '' : ', the access key was tried and is in use';
    output.done(`repository ${r.name} is changed: ${compressionText(r)}, ${spaceText(r)}${key}`, r);
    for (const { moverName, message, code } of r.problems) output.note(`${moverName} could not follow: ${message} [${code}]`);
    return r.problems.length > 0 ? 3 : 0;
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
