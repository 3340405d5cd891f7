import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CommandHost } from '../context';
import { ExitCode } from '../exit-code';
import { formatBytes, formatTime } from '../output';
import { confirm, readPassword } from '../passwords';
import type { PasswordOptions } from '../passwords';

type Platform = z.infer<typeof S.Platform>;
type Inspection = z.infer<typeof S.PlatformInspection>;
type Test = z.infer<typeof S.PlatformTest>;
type Targets = z.infer<typeof S.Targets>;
type Target = z.infer<typeof S.Target>;

const at = (id: string) => `/platforms/${encodeURIComponent(id)}`;

/** platform: add, list, show, edit, rescan, test, targets, remove. */
export function platformCommands(program: Command, host: CommandHost): void {
  const platform = program.command('platform').description('connected oVirt engines');

  const add = platform
    .command('add <name>')
    .description('connect an engine; shows its CA fingerprint and asks to confirm it')
    .requiredOption('--url <url>', 'e.g. https://engine.example/ovirt-engine')
    .requiredOption('--user <name>', 'e.g. admin@internal or admin@ovirt@internalsso')
    .option('--password-file <file>', 'file that holds the password')
    .option('--password-stdin', 'read the password from standard input')
    .option('--fingerprint <sha256>', 'the CA fingerprint, when it is known already')
    .option('--plugin <id>', 'when there is more than one')
    .addHelpText('after', '\nExample:\n  tidemark platform add east --url https://engine.example --user admin@internal --password-file pw');
  interface AddOptions extends PasswordOptions {
    url: string;
    user: string;
    fingerprint?: string;
    plugin?: string;
  }
  host.run<AddOptions>(add, async ({ api, output, process }, options, name = '') => {
    const plugin = options.plugin === undefined ? {} : { plugin: options.plugin };
    const found = await api.post<Inspection>('/platforms/inspect', { url: options.url, ...plugin });
    output.note(
      `CA of ${found.url}\n  subject      ${found.caSubject}\n  fingerprint  ${found.caFingerprint}\n  expires      ${formatTime(found.caExpiresAt)}`,
    );
    if (options.fingerprint === undefined && !(await confirm(process, 'Is this the CA of your engine?'))) {
      throw usage('compare the fingerprint with the engine and give it with --fingerprint');
    }
    const password = await readPassword(process, options, `Password of ${options.user}: `);
    const platform = await api.post<Platform>('/platforms', {
      name,
      url: options.url,
      username: options.user,
      password,
      caFingerprint: options.fingerprint ?? found.caFingerprint,
      ...plugin,
    });
    output.done(`${platform.name} is connected: engine ${platform.engineVersion}`, platform);
  });

  host.run(platform.command('list').description('list connected engines'), async ({ api, output }) => {
    const { items } = await api.get<{ items: Platform[] }>('/platforms');
    output.list(
      items,
      [
        { title: 'platform', value: (p) => p.name },
        { title: 'url', value: (p) => p.url },
        { title: 'user', value: (p) => p.username },
        { title: 'engine', value: (p) => p.engineVersion },
        { title: 'state', value: (p) => p.unavailable?.code ?? 'ok' },
        { title: 'last contact', value: (p) => formatTime(p.lastContactAt) },
      ],
      'no engine is connected; run: tidemark platform add',
    );
  });

  host.run(platform.command('show <platform>').description('show a connected engine'), async ({ api, output }, _options, id = '') => {
    const p = await api.get<Platform>(at(id));
    output.show(p, [
      ['platform', p.name],
      ['id', p.id],
      ['url', p.url],
      ['user', p.username],
      ['CA fingerprint', p.caFingerprint],
      ['engine', p.engineVersion],
      ['unavailable', p.unavailable ? `${p.unavailable.message} [${p.unavailable.code}]` : undefined],
      ['last contact', formatTime(p.lastContactAt)],
    ]);
  });

  const edit = platform
    .command('edit <platform>')
    .description('new user, password or CA fingerprint')
    .option('--user <name>')
    .option('--password-file <file>')
    .option('--password-stdin')
    .option('--fingerprint <sha256>', 'after you compared the new CA with the engine');
  host.run<PasswordOptions & { user?: string; fingerprint?: string }>(edit, async ({ api, output, process }, options, id = '') => {
    const hasPassword = options.passwordFile !== undefined || options.passwordStdin === true;
    const p = await api.patch<Platform>(at(id), {
      ...(options.user === undefined ? {} : { username: options.user }),
      ...(options.fingerprint === undefined ? {} : { caFingerprint: options.fingerprint }),
      ...(hasPassword ? { password: await readPassword(process, options, '') } : {}),
    });
    output.done(`${p.name} is changed`, p);
  });

  host.run(platform.command('rescan <platform>').description('read the inventory afresh'), async ({ api, output }, _options, id = '') => {
    const found = await api.post<{ vmCount: number }>(`${at(id)}/rescan`);
    output.done(`${found.vmCount} VMs`, found);
  });

  host.run(
    platform.command('test <platform>').description('connection, version and permission probe'),
    async ({ api, output }, _options, id = '') => {
      const test = await api.post<Test>(`${at(id)}/test`);
      if (output.json) output.object(test);
      else {
        output.list(
          test.findings,
          [
            { title: '', value: (f) => (f.passed ? 'ok' : 'FAILED') },
            { title: 'check', value: (f) => f.check },
            { title: 'found', value: (f) => f.message },
            { title: 'what to do', value: (f) => (f.passed ? undefined : f.advice) },
          ],
          'nothing was checked',
        );
      }
      return test.passed ? ExitCode.success : ExitCode.failed;
    },
  );

  host.run(
    platform.command('targets <platform>').description('clusters, storage domains and vNIC profiles to restore to'),
    async ({ api, output }, _options, id = '') => {
      const targets = await api.get<Targets>(`${at(id)}/targets`);
      if (output.json) return output.object(targets);
      const rows = [
        ...targets.clusters.map((t) => ({ kind: 'cluster', ...t })),
        ...targets.storageDomains.map((t) => ({ kind: 'storage domain', ...t })),
        ...targets.vnicProfiles.map((t) => ({ kind: 'vNIC profile', ...t })),
      ];
      output.list<Target & { kind: string }>(
        rows,
        [
          { title: 'kind', value: (t) => t.kind },
          { title: 'name', value: (t) => t.name },
          { title: 'id', value: (t) => t.id },
          { title: 'free', align: 'right', value: (t) => (t.freeBytes > 0 ? formatBytes(t.freeBytes) : undefined) },
          { title: 'detail', value: (t) => t.detail || undefined },
        ],
        'the engine has none',
      );
    },
  );

  host.run(
    platform.command('remove <platform>').description('forget an engine; restore points stay'),
    async ({ api, output }, _options, id = '') => {
      await api.delete(at(id));
      output.done(`${id} is removed`, { id });
    },
  );
}
