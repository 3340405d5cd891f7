import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CliProcess, CommandHost } from '../context';
import { formatBytes, formatDuration, formatTime } from '../output';
import { keyFromOptions, newPassphrase, recoveryKeyText, type GivenKey, type KeyOptions } from '../repository-key-options';
import { accessOf, compressionFrom, compressionText, repositoryEditCommand, spaceText } from './repository-edit';
import { repositoryKeyCommands } from './repository-key';
import { careLines, repositoryMaintenanceCommands } from './repository-maintenance';

type Repository = z.infer<typeof S.Repository>;

const at = (id: string) => `/repositories/${encodeURIComponent(id)}`;

type AddOptions = KeyOptions & {
  readonly location: string;
  readonly mover?: string;
  readonly gateway: readonly string[];
  readonly attach?: boolean;
  readonly compression?: string;
  readonly accessKeyFile?: string;
  readonly ca?: string;
  /** False with --no-encryption. */
  readonly encryption: boolean;
};

/** Encryption is on unless told: of a new repository its key has to be chosen. One that is taken over says itself whether it needs one. */
async function keyOf(process: CliProcess, options: AddOptions): Promise<GivenKey | undefined> {
  const given = keyFromOptions(options);
  if (given && !options.encryption) throw usage('--no-encryption goes with no key');
  if (given?.kind === 'recovery' && options.attach !== true) throw usage('--recovery-key-file goes with --attach');
  if (given || !options.encryption || options.attach === true) return given;
  return newPassphrase(process, 'choose one of --passphrase-file FILE, --key-file FILE, --no-encryption');
}

/** repository: add, list, show, edit, verify, remove, key. */
export function repositoryCommands(program: Command, host: CommandHost): void {
  const repository = program.command('repository').description('where restore points are stored');

  const add = repository
    .command('add <name>')
    .description('make a repository in a folder of a mover or in a bucket, or take over an existing one')
    .requiredOption('--location <location>', "absolute path on the mover's machine, nfs: or smb: share, or s3:https://host/bucket/prefix")
    .option(
      '--access-key-file <file>',
      'for a bucket or an SMB share: a file of two lines, the id of the access key (the user) and its secret',
    )
    .option('--ca <file>', "for a bucket: PEM of the CA that signed the server's certificate, when it is none of the public ones")
    .option('--passphrase-file <file>', 'encrypt with a passphrase of at least 12 characters; asked for when nothing else is said')
    .option('--key-file <file>', 'encrypt with a key: 64 hexadecimal digits, as "openssl rand -hex 32" makes them')
    .option('--recovery-key-file <file>', 'with --attach: the recovery key')
    .option('--no-encryption', 'store in the clear')
    .option('--mover <id>', "the mover on the repository's own machine; when there is more than one")
    .option(
      '--gateway <id>',
      'a gateway that may carry data to it, repeat for more; "any" for every gateway, as it is for buckets and shares unless told',
      (value: string, before: readonly string[]) => [...before, value],
      [],
    )
    .option('--attach', 'take over the repository that is there')
    .option('--compression <kind>', 'none, lz4, zstd or zstd:1 to zstd:19')
    .addHelpText(
      'after',
      '\nExample:\n  tidemark repository add main --location /srv/backup --passphrase-file passphrase' +
        '\n  tidemark repository add cloud --location s3:https://s3.example/backup --access-key-file access --key-file key',
    );
  host.run<AddOptions>(add, async ({ api, output, process }, options, name = '') => {
    const key = await keyOf(process, options);
    const access = options.accessKeyFile === undefined ? undefined : accessOf(options.accessKeyFile, options.ca);
    const r = await api.post<z.infer<typeof S.RepositoryAdded>>('/repositories', {
      name,
      location: options.location,
      attach: options.attach === true,
      ...(access && { access }),
      ...(key ? { key } : { encrypted: false }),
      ...(options.mover === undefined ? {} : { mover: options.mover }),
      ...(options.gateway.length === 0 ? {} : { gateways: options.gateway.filter((id) => id !== 'any') }),
      ...(options.compression === undefined ? {} : compressionFrom(options.compression)),
    });
    const recovery = r.recoveryKey === null ? '' : `\n${recoveryKeyText(r.recoveryKey)}`;
    output.done(`repository ${r.name} is ready: ${r.pointCount} points, ${spaceText(r)}${recovery}`, r);
  });

  host.run(repository.command('list').description('list repositories'), async ({ api, output }) => {
    const { items } = await api.get<{ items: Repository[] }>('/repositories');
    output.list(
      items,
      [
        { title: 'repository', value: (r) => r.name },
        { title: 'location', value: (r) => r.location },
        { title: 'state', value: (r) => r.reason ?? r.state },
        { title: 'points', align: 'right', value: (r) => r.pointCount },
        { title: 'stored', align: 'right', value: (r) => formatBytes(r.storedBytes) },
        {
          title: 'free',
          align: 'right',
          value: (r) => (r.freeBytesKnown ? formatBytes(r.freeBytes) : '?') + (r.space === 'enough' ? '' : ` (${r.space})`),
        },
      ],
      'there is no repository; run: tidemark repository add',
    );
  });

  host.run(repository.command('show <repository>').description('show a repository'), async ({ api, output }, _options, id = '') => {
    const r = await api.get<Repository>(at(id));
    output.show(r, [
      ['repository', r.name],
      ['id', r.id],
      ['location', r.location],
      ['mover', r.moverId],
      ['gateways', r.gateways === null ? undefined : r.gateways.length === 0 ? 'any' : r.gateways.join(', ')],
      [
        'preferred',
        r.preferredGateways.map(({ moverId, cluster }) => `${moverId}${cluster ? ` for ${cluster.name}` : ''}`).join(', ') || undefined,
      ],
      ['state', r.message ?? r.state],
      ['points', r.pointCount],
      ['stored', `${formatBytes(r.storedBytes)} in ${r.blockCount} blocks of up to ${formatBytes(r.blockSizeBytes)}`],
      ['space', spaceText(r)],
      ['capacity', r.capacityBytes === 0 ? undefined : formatBytes(r.capacityBytes)],
      ['grace', formatDuration(r.graceMs)],
      ['compression', compressionText(r)],
      ['encrypted', r.encrypted ? 'yes' : 'no'],
      ['open sessions', r.openSessionCount],
      ['created', formatTime(r.createdAt)],
      ...careLines(r),
    ]);
  });

  const way = repository
    .command('path <repository>')
    .description('which mover a session would go through now, and why')
    .option('--vm <vm>', 'for a session of this VM')
    .addHelpText('after', '\nExample:\n  tidemark repository path cloud --vm web-1');
  host.run<{ vm?: string }>(way, async ({ api, output }, { vm }, id = '') => {
    const found = await api.get<z.infer<typeof S.RepositoryPath>>(`${at(id)}/path`, { vm });
    output.show(found, [
      ['mover', found.moverName ?? 'none now'],
      ['why', `${found.message} [${found.reason}]`],
      ...found.passed.map(({ moverName, why }) => ['not', `${moverName}: ${why}`] as const),
    ]);
    return found.moverId === null ? 1 : 0;
  });

  repositoryMaintenanceCommands(repository, host);

  repositoryEditCommand(repository, host);
  repositoryKeyCommands(repository, host);

  host.run(
    repository.command('remove <repository>').description('stop using a repository; its data stays'),
    async ({ api, output }, _options, id = '') => {
      await api.delete(at(id));
      output.done(`repository ${id} is removed; its data stays`, { id });
    },
  );
}
