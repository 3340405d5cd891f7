import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import type { CommandHost } from '../context';
import { ExitCode } from '../exit-code';
import { formatTime } from '../output';

type Config = z.infer<typeof S.Config>;
type Copy = z.infer<typeof S.ConfigurationCopy>;
type RecoveryKey = z.infer<typeof S.ConfigurationRecoveryKey>;

const keyText = (recoveryKey: string): string =>
  `recovery key of the configuration: ${recoveryKey}\n` +
  'Write it down and keep it away from this server: with it and a repository a new server can be made ("tidemark config restore"). It is\n' +
  'not shown again.';

/** config: show, set, backup, key. `config restore` needs no server, see tidemark.ts. */
export function configurationCommands(program: Command, host: CommandHost): void {
  const config = program.command('config').description("the server's settings");
  host.run(config.command('show').description('show settings and endpoints'), async ({ api, output }) => {
    const c = await api.get<Config>('/config');
    output.show(c, [
      ['version', c.version],
      ['console', c.endpoints.console],
      ['control', c.endpoints.control],
      ['enrolment', c.endpoints.enrolment],
      ['CA fingerprint', c.caFingerprint],
      ...Object.entries(c.settings).map(([name, value]) => [name, JSON.stringify(value)] as const),
    ]);
  });
  const set = config
    .command('set <name> <value>')
    .description('change one setting')
    .addHelpText(
      'after',
      '\nExample:\n  tidemark config set retryAttempts 5\n  tidemark config set retryDelaysMs "[60000,300000]"\n  tidemark config set collectSchedule "0 5 * * *"',
    );
  host.run(set, async ({ api, output }, _options, name = '', value = '') => {
    const c = await api.patch<Config>('/config', { [name]: settingOf(value) });
    output.done(`${name} is ${value}`, c);
  });

  const backup = config
    .command('backup')
    .description('copy the configuration into every repository now, as every night')
    .option('--repository <name>', 'into this one alone')
    .addHelpText('after', '\nExample:\n  tidemark config backup\n\nA new server from such a copy: tidemark config restore --help');
  host.run<{ repository?: string }>(backup, async ({ api, output }, { repository }) => {
    const { items } = await api.post<{ items: Copy[] }>('/config/copies', repository === undefined ? {} : { repository });
    output.list(
      items,
      [
        { title: 'repository', value: (c) => c.repositoryName },
        { title: 'copy', value: (c) => c.name ?? 'FAILED' },
        { title: 'why', value: (c) => c.failure?.message },
      ],
      'there is no repository; run: tidemark repository add',
    );
    return items.some((c) => c.failure) ? ExitCode.failed : ExitCode.success;
  });

  const key = config.command('key').description('what opens copies of the configuration');
  host.run(key.command('show').description('when it was made, and whether somebody has it'), async ({ api, output }) => {
    const k = await api.get<z.infer<typeof S.ConfigurationKey>>('/config/key');
    output.show(k, [
      ['fingerprint', k.fingerprint],
      ['made', formatTime(k.createdAt)],
      ['shown', k.wasShown ? 'yes' : 'no: run "tidemark config key show-once"'],
    ]);
  });
  host.run(key.command('show-once').description('print the recovery key, the first time'), async ({ api, output }) => {
    const k = await api.post<RecoveryKey>('/config/key/show-once');
    output.done(keyText(k.recoveryKey), k);
  });
  host.run(
    key.command('new').description('another recovery key for copies from now on; copies of before open with the old one'),
    async ({ api, output }) => {
      const k = await api.post<RecoveryKey>('/config/key/renew');
      output.done(
        `${keyText(k.recoveryKey)}\nCopies of before open with the key of before; "tidemark config backup" makes one for this key now.`,
        k,
      );
    },
  );
}

/** Numbers and lists as JSON has them; everything else is a text, e.g. a schedule. The server checks it. */
function settingOf(value: string): unknown {
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}
