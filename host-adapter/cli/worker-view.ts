import type { z } from 'zod';
import type * as S from '../console/schemas';
import { formatBytes, formatTable, formatTime } from './output';
import type { Column } from './output';

export type Worker = z.infer<typeof S.Worker>;
export type SelfTest = z.infer<typeof S.SelfTest>;
type Cell = SelfTest['cells'][number];
type Settings = z.infer<typeof S.WorkerSettings>;
type Policy = z.infer<typeof S.FleetPolicy>;
type Targets = z.infer<typeof S.Targets>;
type Address = Settings['nics'][number]['ipv4'];

export const workerColumns: readonly Column<Worker>[] = [
  { title: 'worker', value: (w) => w.name },
  { title: 'state', value: (w) => w.state },
  { title: 'cluster', value: (w) => w.clusterName ?? 'beside the server' },
  { title: 'tasks', align: 'right', value: (w) => `${w.runningTasks}/${w.taskSlots}` },
  { title: 'memory', align: 'right', value: (w) => (w.residentMemoryBytes > 0 ? formatBytes(w.residentMemoryBytes) : undefined) },
  { title: 'image', value: (w) => (w.imageVersion === null ? undefined : `${w.imageVersion}${w.outdated ? ' (outdated)' : ''}`) },
  { title: 'test', value: (w) => w.selfTest?.verdict },
  { title: 'addresses', value: (w) => shortened(w.addresses) },
  { title: 'last seen', value: (w) => formatTime(w.lastSeenAt) },
  { title: 'problem', value: (w) => w.problem?.message },
];

/** A machine beside the server may have dozens. */
function shortened(addresses: readonly string[]): string | undefined {
  const [first, second, ...more] = addresses;
  return first && [first, second, more.length > 0 ? `and ${more.length} more` : ''].filter(Boolean).join(', ');
}

const cellColumns: readonly Column<Cell>[] = [
  { title: '', value: (c) => (c.verdict === 'passed' ? 'ok' : c.verdict === 'failed' ? 'FAILED' : c.verdict) },
  { title: 'check', value: (c) => c.check },
  {
    title: 'of',
    value: (c) => [c.targetName, c.target].filter((text, at, all) => text !== '' && all.indexOf(text) === at).join(' ') || undefined,
  },
  { title: 'found', value: (c) => c.detail || undefined },
  { title: 'from', value: (c) => c.localAddress || undefined },
  { title: 'what to do', value: (c) => c.advice || undefined },
];

/** The matrix of a self-test, for people. */
export function describeSelfTest(test: SelfTest): string {
  return `${formatTable(test.cells, cellColumns)}\nself-test of ${formatTime(test.testedAt)}: ${test.verdict}`;
}

type Line = readonly [string, string | number | undefined];

/** A worker as lines; `targets` turns ids into names where it can. */
export function workerLines(worker: Worker, targets: Targets | undefined): readonly Line[] {
  const { settings } = worker;
  const host = targets?.hosts.find(({ id }) => id === worker.hostId)?.name ?? worker.hostId;
  return [
    ['worker', worker.name],
    ['id', worker.id],
    ['state', worker.state],
    ['problem', worker.problem ? `${worker.problem.message} [${worker.problem.code}]` : undefined],
    ['cluster', worker.clusterName ?? 'beside the server'],
    ['VM', worker.vmId ?? undefined],
    ['runs on', host ?? (worker.vmId === null ? worker.hostName : undefined)],
    ['addresses', worker.addresses.join(', ')],
    ['tasks', `${worker.runningTasks} of ${worker.taskSlots}`],
    ['version', worker.version],
    ['image', worker.imageVersion === null ? undefined : `${worker.imageVersion}${worker.outdated ? ', another one is installed' : ''}`],
    ['certificate', worker.certificateDaysLeft === null ? undefined : `${worker.certificateDaysLeft} days left, renewed by itself`],
    ['last seen', formatTime(worker.lastSeenAt)],
    ['made', worker.createdAt === null ? undefined : formatTime(worker.createdAt)],
    ...(settings ? settingsLines(settings, targets) : []),
  ];
}

function settingsLines(settings: Settings, targets: Targets | undefined): readonly Line[] {
  const named = (list: Targets['hosts'] | undefined, id: string) => list?.find((target) => target.id === id)?.name ?? id;
  return [
    ['description', settings.description ?? undefined],
    ['storage domain', settings.storageDomainId === null ? undefined : named(targets?.storageDomains, settings.storageDomainId)],
    ['vCPUs', settings.cpuCount ?? undefined],
    ['memory', settings.memoryBytes === null ? undefined : formatBytes(settings.memoryBytes)],
    ...settings.nics.map((nic, index) => {
      const routes = nic.routes.map(({ destination, via }) => `${destination}${via === null ? '' : ` by ${via}`}`);
      const facts = [
        named(targets?.vnicProfiles, nic.vnicProfileId) || 'management network',
        `IPv4 ${addressText(nic.ipv4)}`,
        `IPv6 ${addressText(nic.ipv6)}`,
      ];
      if (nic.mtu !== null) facts.push(`MTU ${nic.mtu}`);
      return [`NIC ${index + 1}`, [...facts, ...routes].join(', ')] as const;
    }),
    ['name servers', [...settings.dnsServers, ...settings.dnsSearch].join(', ')],
    ['time servers', settings.ntpServers.join(', ')],
    ['only on', settings.hostIds.map((id) => named(targets?.hosts, id)).join(', ')],
    ['not on hosts with', settings.avoidedHostTags.join(', ')],
  ];
}

function addressText({ method, address, gateway }: Address): string {
  return method === 'static' ? `${address ?? ''}${gateway === null ? '' : ` by ${gateway}`}` : method;
}

const onOff = (value: boolean) => (value ? 'on' : 'off');

export function policyLines(policy: Policy, targets: Targets | undefined): readonly Line[] {
  const { automaticSettings } = policy;
  return [
    ['deploy automatically', onOff(policy.deployAutomatically)],
    ['workers of other clusters', onOff(policy.allowOtherClusters)],
    ['workers beside the server', onOff(policy.allowBesideServer)],
    ['stop when idle for', `${policy.stopIdleAfterMs / 60_000} minutes`],
    ['kept warm per cluster', policy.warmWorkers],
    ['at most per cluster', policy.maxWorkers],
    ['tasks per host', policy.tasksPerHost],
    ['tasks per storage domain', policy.tasksPerStorageDomain],
    ['tasks per platform', policy.tasksPerPlatform],
    ['workers dial', policy.workerEndpoint ?? 'what the plug-in announces'],
    ['workers enrol at', policy.workerEnrolmentEndpoint ?? 'what the plug-in announces'],
    ['names begin with', policy.namePrefix],
    ['automatic: tasks', automaticSettings.taskSlots ?? undefined],
    ...settingsLines(automaticSettings, targets).map(([title, value]) => [`automatic: ${title}`, value] as const),
  ];
}
