import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CommandContext, CommandHost } from '../context';
import { formatBytes, formatTime } from '../output';
import type { Session } from '../session-view';
import { watchSession } from '../watch-session';
import { policyLines } from '../worker-view';
import { settingsBody, settingsOptions, wholeNumber } from './worker-options';
import type { SettingsOptions } from './worker-options';

type Orphan = z.infer<typeof S.OrphanWorker>;
type Image = z.infer<typeof S.WorkerImage>;
type Policy = z.infer<typeof S.FleetPolicy>;
type Platform = z.infer<typeof S.Platform>;
type Targets = z.infer<typeof S.Targets>;

interface PolicyOptions extends SettingsOptions {
  platform?: string;
  deployAutomatically?: string;
  otherClusters?: string;
  besideServer?: string;
  idleMinutes?: string;
  warm?: string;
  max?: string;
  tasksPerHost?: string;
  tasksPerStorageDomain?: string;
  tasksPerPlatform?: string;
  workerEndpoint?: string;
  workerEnrolmentEndpoint?: string;
  namePrefix?: string;
}

/** worker orphans, worker image, worker policy. */
export function fleetCommands(worker: Command, host: CommandHost): void {
  const orphans = worker
    .command('orphans')
    .description('worker VMs in the engines that belong to no worker here: of a lost server, or of another one');
  host.run(orphans.command('list', { isDefault: true }).description('list them'), async ({ api, output }) => {
    const { items } = await api.get<{ items: Orphan[] }>('/orphan-workers');
    output.list(
      items,
      [
        { title: 'VM', value: (o) => o.name },
        { title: 'id', value: (o) => o.vmId },
        { title: 'status', value: (o) => o.status },
        { title: 'made by', value: (o) => o.madeBy ?? undefined },
        { title: 'made', value: (o) => formatTime(o.createdAt) },
        { title: 'description', value: (o) => o.description || undefined },
      ],
      'every worker VM belongs to a worker here',
    );
  });
  const remove = orphans
    .command('remove <vm>')
    .description('remove such a VM; look first that no other server uses it')
    .option('--no-wait', 'start it and return')
    .addHelpText('after', '\nExample:\n  tidemark worker orphans remove tidemark-worker-east-01');
  host.run<{ wait: boolean }>(remove, async (context, { wait }, id = '') => {
    const session = await context.api.delete<Session>(`/orphan-workers/${encodeURIComponent(id)}`);
    if (wait) return watchSession(context, session.id);
    context.output.done(`session ${session.id} is running: ${session.subject}`, session);
    return 0;
  });

  host.run(worker.command('image').description('the worker image that is deployed'), async ({ api, output }) => {
    const { items } = await api.get<{ items: Image[] }>('/worker-images');
    output.list(
      items,
      [
        { title: 'version', value: (i) => i.version },
        { title: 'file', align: 'right', value: (i) => formatBytes(i.fileBytes) },
        { title: 'disk', align: 'right', value: (i) => formatBytes(i.diskBytes) },
        { title: 'path', value: (i) => i.path },
        { title: 'SHA-256', value: (i) => i.sha256 },
      ],
      'no worker image is installed; see docs/operations/workers.md',
    );
  });

  const policy = settingsOptions(
    worker
      .command('policy')
      .description('show or change the rules of a platform’s workers; the settings below are those of workers deployed automatically')
      .option('--platform <name>', 'needed when there is more than one')
      .option('--deploy-automatically <on|off>', 'deploy a worker into a cluster that has none when a task needs it')
      .option('--other-clusters <on|off>', 'let a task go to a worker of another cluster')
      .option('--beside-server <on|off>', 'let a task go to a worker beside the server')
      .option('--idle-minutes <n>', 'shut a worker down after this time without work')
      .option('--warm <n>', 'kept running per cluster that has workers')
      .option('--max <n>', 'workers per cluster')
      .option('--tasks-per-host <n>')
      .option('--tasks-per-storage-domain <n>')
      .option('--tasks-per-platform <n>')
      .option('--worker-endpoint <host:port>', 'what workers dial, when there is NAT between; "default" for what the plug-in announces')
      .option('--worker-enrolment-endpoint <host:port>')
      .option('--name-prefix <text>'),
  ).addHelpText(
    'after',
    '\nExamples:\n  tidemark worker policy\n  tidemark worker policy --platform lab --idle-minutes 30 --other-clusters off --tasks 8',
  );
  host.run<PolicyOptions>(policy, async ({ api, output }, options) => {
    const path = `/platforms/${encodeURIComponent(await platformOf(api, options.platform))}`;
    const change = changeOf(options);
    const none = Object.keys(change).length === 0;
    const found = none ? await api.get<Policy>(`${path}/fleet-policy`) : await api.patch<Policy>(`${path}/fleet-policy`, change);
    if (output.json) return output.object(found);
    output.show(found, policyLines(found, await api.get<Targets>(`${path}/targets`).catch(() => undefined)));
  });
}

async function platformOf(api: CommandContext['api'], name: string | undefined): Promise<string> {
  if (name !== undefined) return name;
  const { items } = await api.get<{ items: Platform[] }>('/platforms');
  const [only, ...more] = items;
  if (!only || more.length > 0) throw usage(only ? 'there are several platforms; name one with --platform' : 'no platform is connected');
  return only.id;
}

function changeOf(options: PolicyOptions): Record<string, unknown> {
  const { deployAutomatically, otherClusters, besideServer, idleMinutes, workerEndpoint, workerEnrolmentEndpoint } = options;
  const count = (option: string, value: string | undefined) => (value === undefined ? undefined : wholeNumber(option, value));
  const dialled = (value: string | undefined) => (value === 'default' ? null : value);
  const automatic = settingsBody(options);
  const change: Record<string, unknown> = {
    deployAutomatically: switchOf('--deploy-automatically', deployAutomatically),
    allowOtherClusters: switchOf('--other-clusters', otherClusters),
    allowBesideServer: switchOf('--beside-server', besideServer),
    stopIdleAfterMs: idleMinutes === undefined ? undefined : wholeNumber('--idle-minutes', idleMinutes) * 60_000,
    warmWorkers: count('--warm', options.warm),
    maxWorkers: count('--max', options.max),
    tasksPerHost: count('--tasks-per-host', options.tasksPerHost),
    tasksPerStorageDomain: count('--tasks-per-storage-domain', options.tasksPerStorageDomain),
    tasksPerPlatform: count('--tasks-per-platform', options.tasksPerPlatform),
    workerEndpoint: dialled(workerEndpoint),
    workerEnrolmentEndpoint: dialled(workerEnrolmentEndpoint),
    namePrefix: options.namePrefix,
    automaticSettings: Object.keys(automatic).length === 0 ? undefined : automatic,
  };
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
}

function switchOf(option: string, value: string | undefined): boolean | undefined {
  if (value === undefined) return undefined;
  if (value !== 'on' && value !== 'off') throw usage(`${option}: say on or off`);
  return value === 'on';
}
