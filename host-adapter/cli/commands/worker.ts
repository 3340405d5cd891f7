import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import type { CommandContext, CommandHost } from '../context';
import { ExitCode, exitCodeOfState } from '../exit-code';
import { formatBytes } from '../output';
import { describeSession } from '../session-view';
import type { Session } from '../session-view';
import { followSession, watchSession } from '../watch-session';
import { describeSelfTest, workerColumns, workerLines } from '../worker-view';
import type { Worker } from '../worker-view';
import { enrolCommand } from './enrol';
import { fleetCommands } from './fleet';
import { settingsBody, settingsOptions } from './worker-options';
import type { SettingsOptions } from './worker-options';

type Preview = z.infer<typeof S.WorkerPreview>;
type Targets = z.infer<typeof S.Targets>;

const at = (id: string) => `/workers/${encodeURIComponent(id)}`;

/** worker: list, show, deploy, edit, test, start, stop, drain, resume, redeploy, remove, orphans, policy, image, enrol. */
export function workerCommands(program: Command, host: CommandHost): void {
  const worker = program
    .command('worker')
    .description('workers that read and write disks: VMs in the clusters, processes beside the server');

  host.run(worker.command('list').description('list workers'), async ({ api, output }) => {
    const { items } = await api.get<{ items: Worker[] }>('/workers');
    output.list(items, workerColumns, 'there is no worker; run: tidemark worker deploy');
  });

  host.run(
    worker.command('show <worker>').description('show a worker with its last self-test'),
    async ({ api, output }, _options, id = '') => {
      const found = await api.get<Worker>(at(id));
      if (output.json) return output.object(found);
      output.show(found, workerLines(found, await targetsOf(api, found.platformId)));
      if (found.selfTest) output.stdout.write(`\n${describeSelfTest(found.selfTest)}\n`);
    },
  );

  deployCommands(worker, host);

  host.run(
    worker
      .command('test <worker>')
      .description('run the self-test and show its matrix; exit code 3 on warnings, 1 on failures')
      .addHelpText('after', '\nExample:\n  tidemark worker test tidemark-worker-east-01'),
    testWorker,
  );
  host.run<{ wait: boolean }>(
    worker.command('start <worker>').description('start a worker VM and wait until it is ready').option('--no-wait', 'start it and return'),
    async (context, options, id = '') => follow(context, await context.api.post<Session>(`${at(id)}/start`), options.wait),
  );
  for (const [verb, text] of [
    ['stop', 'drain a worker VM and shut it down; it is started again when work comes'],
    ['redeploy', 'replace a worker VM by a new one from the present image; the old one goes when the new one passed its test'],
    ['remove', 'drain a worker VM, remove it and forget it'],
  ] as const) {
    const command = worker
      .command(`${verb} <worker>`)
      .description(text)
      .option('--force', 'do not wait for running tasks: they are retried elsewhere')
      .option('--no-wait', 'start it and return')
      .addHelpText('after', `\nExample:\n  tidemark worker ${verb} tidemark-worker-east-01`);
    host.run<{ force?: boolean; wait: boolean }>(command, async (context, { force = false, wait }, id = '') => {
      const { api } = context;
      const session =
        verb === 'remove' ? await api.delete<Session>(at(id), { force }) : await api.post<Session>(`${at(id)}/${verb}`, { force });
      return follow(context, session, wait);
    });
  }
  for (const [verb, text] of [
    ['drain', 'give a worker no new tasks; running ones end'],
    ['resume', 'give a drained worker tasks again'],
  ] as const) {
    host.run(worker.command(`${verb} <worker>`).description(text), async ({ api, output }, _options, id = '') => {
      const changed = await api.post<Worker>(`${at(id)}/${verb}`);
      output.done(`worker ${changed.name} is ${changed.state}`, changed);
    });
  }
  fleetCommands(worker, host);
  enrolCommand(worker, host, 'worker');
}

interface DeployOptions extends SettingsOptions {
  platform?: string;
  cluster: string;
  wait: boolean;
  dryRun?: boolean;
}

function deployCommands(worker: Command, host: CommandHost): void {
  const deploy = settingsOptions(
    worker
      .command('deploy')
      .description('put a worker VM into a cluster and watch until it is ready')
      .requiredOption('--cluster <name>')
      .option('--platform <name>', 'needed when there is more than one')
      .option('--name <name>', 'default: <prefix>-worker-<cluster>-<nn>')
      .option('--description <text>'),
  )
    .option('--no-wait', 'start it and return')
    .option('--dry-run', 'show what it would be, and make nothing')
    .addHelpText(
      'after',
      '\nExamples:\n  tidemark worker deploy --cluster east\n  tidemark worker deploy --cluster east --storage-domain fast --tasks 8 \\\n    --network "profile=backup,ipv4=10.0.0.9/24,route=10.1.0.0/16@10.0.0.1,ipv6=none" --dns 10.0.0.2',
    );
  host.run<DeployOptions>(deploy, async (context, options) => {
    const { api, output } = context;
    const { cluster, platform } = options;
    const body = { cluster, ...(platform === undefined ? {} : { platform }), ...settingsBody(options) };
    if (options.dryRun === true) {
      const p = await api.post<Preview>('/workers/preview', body);
      return output.show(p, [
        ['would deploy', p.settings.name ?? 'a worker with a name of its own'],
        ['cluster', p.clusterName],
        ['image', p.imageVersion],
        ['tasks', p.taskSlots],
        ['size', `${p.cpuCount} vCPUs, ${formatBytes(p.memoryBytes)}`],
        ['storage domain', options.storageDomain ?? 'the one with the most free space'],
        ['networks', p.settings.nics.length === 0 ? "the cluster's management network, automatic addresses" : p.settings.nics.length],
      ]);
    }
    return follow(context, await api.post<Session>('/workers', body), options.wait);
  });

  const edit = settingsOptions(
    worker
      .command('edit <worker>')
      .description('change a worker VM: it is drained and made anew; "default" gives a choice back')
      .option('--description <text>'),
  )
    .option('--force', 'do not wait for running tasks: they are retried elsewhere')
    .option('--no-wait', 'start it and return')
    .addHelpText('after', '\nExample:\n  tidemark worker edit tidemark-worker-east-01 --tasks 8 --storage-domain default');
  host.run<SettingsOptions & { force?: boolean; wait: boolean }>(edit, async (context, options, id = '') => {
    const body = { ...settingsBody(options), force: options.force === true };
    return follow(context, await context.api.patch<Session>(at(id), body), options.wait);
  });
}

/** To the end, and then how the worker is; or at once what was started. */
export async function follow(context: CommandContext, session: Session, wait: boolean): Promise<number> {
  if (wait) return watchSession(context, session.id);
  context.output.done(`session ${session.id} is running: ${session.subject}`, session);
  return ExitCode.success;
}

async function testWorker(context: CommandContext, _options: unknown, id = ''): Promise<number> {
  const { api, output } = context;
  const { id: workerId } = await api.get<Worker>(at(id));
  const session = await followSession(context, (await api.post<Session>(`${at(workerId)}/test`)).id);
  const { selfTest } = await api.get<Worker>(at(workerId));
  // A matrix of an earlier run says nothing about this one.
  const found = selfTest?.testedAt && Date.parse(selfTest.testedAt) >= Date.parse(session.startedAt) - 60_000 ? selfTest : null;
  if (output.json) output.object({ sessionId: session.id, state: session.state, selfTest: found });
  else output.stdout.write(`${found ? describeSelfTest(found) : describeSession(session)}\n`);
  if (found?.verdict === 'failed') return ExitCode.failed;
  return session.state === 'success' && found?.verdict === 'warning' ? ExitCode.warnings : exitCodeOfState(session.state);
}

/** Names for ids, where the platform can be asked. */
export async function targetsOf(api: CommandContext['api'], platformId: string | null): Promise<Targets | undefined> {
  if (platformId === null) return undefined;
  try {
    return await api.get<Targets>(`/platforms/${encodeURIComponent(platformId)}/targets`);
  } catch {
    // The engine or the plug-in is away: ids have to do.
    return undefined;
  }
}
