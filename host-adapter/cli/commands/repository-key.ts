import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CommandHost } from '../context';
import { formatTime } from '../output';
import { keyFromOptions, newPassphrase, recoveryKeyText, type KeyOptions } from '../repository-key-options';

const at = (id: string) => `/repositories/${encodeURIComponent(id)}/keys`;

/** repository key: list, add, remove, rotate. */
export function repositoryKeyCommands(repository: Command, host: CommandHost): void {
  const key = repository.command('key').description('what opens an encrypted repository');

  host.run(key.command('list <repository>').description('list keys'), async ({ api, output }, _options, id = '') => {
    const { items } = await api.get<z.infer<typeof S.RepositoryKeys>>(at(id));
    output.list(
      items,
      [
        { title: 'key', value: (k) => k.id },
        { title: 'kind', value: (k) => k.kind },
        { title: 'made', value: (k) => formatTime(k.createdAt) },
        { title: 'used by the mover', value: (k) => (k.inUse ? 'yes' : '') },
      ],
      'there is no key',
    );
  });

  const add = key
    .command('add <repository>')
    .description('another key; asks for a passphrase when no option is given')
    .option('--passphrase-file <file>', 'a passphrase of at least 12 characters')
    .option('--key-file <file>', '64 hexadecimal digits, as "openssl rand -hex 32" makes them')
    .option('--recovery', 'a new recovery key, shown once');
  host.run<KeyOptions & { recovery?: boolean }>(add, async ({ api, output, process }, options, id = '') => {
    const given = keyFromOptions(options);
    if (given && options.recovery === true) throw usage('give one of --passphrase-file, --key-file, --recovery');
    const body =
      options.recovery === true
        ? { kind: 'recovery' }
        : (given ?? (await newPassphrase(process, 'choose one of --passphrase-file FILE, --key-file FILE, --recovery')));
    const added = await api.post<z.infer<typeof S.RepositoryKeyAdded>>(at(id), body);
    output.done(
      `key ${added.id} opens the repository${added.recoveryKey === null ? '' : `\n${recoveryKeyText(added.recoveryKey)}`}`,
      added,
    );
  });

  host.run(
    key.command('remove <repository> <key>').description('remove a key; rotate the keys afterwards'),
    async ({ api, output }, _options, id = '', slot = '') => {
      await api.post(`${at(id)}/remove`, { key: slot });
      output.done(`key ${slot} is removed; "tidemark repository key rotate ${id}" makes new keys for what is written from now on`, {
        id: slot,
      });
    },
  );

  host.run(
    key.command('rotate <repository>').description('new keys for what is written from now on; nothing is written again'),
    async ({ api, output }, _options, id = '') => {
      const rotated = await api.post<z.infer<typeof S.RepositoryKeyRotated>>(`${at(id)}/rotate`);
      output.done(`repository ${id} has new keys; passphrase, key file and recovery key stay as they are`, rotated);
    },
  );
}
