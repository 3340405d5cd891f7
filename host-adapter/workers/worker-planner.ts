/**
 * Turns what an administrator typed into a worker order: names into ids, settings merged, everything refused that can be refused before
 * anything begins. The rest is the plug-in's to refuse, in the session.
 */
import { randomUUID } from 'node:crypto';
import type { ListTargetsResponse__Output } from '../../proto/gen/tidemark/plugin/v1/ListTargetsResponse';
import type { Target__Output } from '../../proto/gen/tidemark/plugin/v1/Target';
import { HostErrors } from '../errors/host-errors';
import type { Platforms } from '../inventory/platforms';
import type { TaskRecord } from '../jobs/task-record';
import type { Fleet } from './fleet';
import type { WorkerAction, WorkerOrder } from './worker-order';
import { noSettings, settingsOf } from './worker-settings';
import type { FleetPolicy, WorkerAddress, WorkerSettings } from './worker-settings';

type Change<T> = { readonly [K in keyof T]?: T[K] | undefined };
type AddressRequest = { readonly method: WorkerAddress['method'] } & Change<{ address: string; gateway: string }>;

/** Settings as they are asked for: names or ids; what is absent stays as it is, null and empty lists take a choice back. */
export type SettingsRequest = Change<
  Pick<WorkerSettings, 'name' | 'description' | 'taskSlots' | 'cpuCount' | 'memoryBytes' | 'dnsServers' | 'dnsSearch' | 'ntpServers'> & {
    storageDomain: string | null;
    nics: readonly {
      readonly vnicProfile: string;
      readonly ipv4?: AddressRequest | undefined;
      readonly ipv6?: AddressRequest | undefined;
      readonly routes: readonly { readonly destination: string; readonly via?: string | undefined }[];
      readonly mtu?: number | undefined;
    }[];
    hosts: readonly string[];
    avoidedHostTags: readonly string[];
  }
>;

export type PolicyRequest = Change<Omit<FleetPolicy, 'automaticSettings'>> & { readonly automaticSettings?: SettingsRequest | undefined };

export interface PlannedWorker {
  readonly order: WorkerOrder;
  /** How the session's task is called. */
  readonly vm: Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName'>;
}

/** What a deployment would make. */
export interface WorkerPreview {
  readonly platformId: string;
  readonly clusterId: string;
  readonly clusterName: string;
  readonly imageVersion: string;
  readonly taskSlots: number;
  readonly cpuCount: number;
  readonly memoryBytes: number;
  readonly settings: WorkerSettings;
}

const defaultTaskSlots = 4;
const gibibyte = 1024 ** 3;

export class WorkerPlanner {
  constructor(
    private readonly fleet: Fleet,
    private readonly platforms: Platforms,
  ) {}

  /** Throws PLATFORM_UNKNOWN, PLATFORM_AMBIGUOUS, TARGET_NOT_FOUND, TARGET_AMBIGUOUS, WORKER_IMAGE_MISSING. */
  async preview(request: { readonly platform?: string | undefined; readonly cluster: string } & SettingsRequest): Promise<WorkerPreview> {
    const { platform, cluster, ...asked } = request;
    const row = await this.platforms.one(platform);
    const [targets, image] = await Promise.all([this.platforms.targets(row.id), this.fleet.image(row.pluginId)]);
    const { id: clusterId, name: clusterName, dataCenterId } = targetOf(targets.clusters, 'cluster', cluster);
    const settings = merged(noSettings, asked, targets, dataCenterId);
    const taskSlots = settings.taskSlots ?? defaultTaskSlots;
    return {
      platformId: row.id,
      clusterId,
      clusterName,
      imageVersion: image.version,
      taskSlots,
      // The rule of tidemark.plugin.v1.WorkerSettings.
      cpuCount: settings.cpuCount ?? Math.max(2, Math.ceil(taskSlots / 2)),
      memoryBytes: settings.memoryBytes ?? gibibyte + taskSlots * (gibibyte / 4),
      settings,
    };
  }

  /** Throws as {@link preview}. */
  async deploy(request: Parameters<WorkerPlanner['preview']>[0], requestedBy: string): Promise<PlannedWorker> {
    const { platformId, clusterId, clusterName, settings } = await this.preview(request);
    const { pluginId } = await this.platforms.row(platformId);
    const action: WorkerAction = { name: 'deploy', platformId, clusterId, workerId: randomUUID(), settings };
    const vmName = settings.name ?? `new worker in ${clusterName}`;
    return { order: { kind: 'worker', pluginId, requestedBy, action }, vm: { platformId, vmId: '', vmName } };
  }

  /** New settings for a worker. Throws WORKER_UNKNOWN, WORKER_BESIDE_SERVER and as {@link preview}. */
  async edit(reference: string, request: SettingsRequest, force: boolean, requestedBy: string): Promise<PlannedWorker> {
    const known = await this.fleet.find(reference);
    const { worker } = known;
    if (!worker.settings) throw HostErrors.WORKER_BESIDE_SERVER({ worker: worker.name || worker.hostName });
    const targets = await this.platforms.targets(worker.platformId);
    const dataCenterId = targets.clusters.find(({ id }) => id === worker.clusterId)?.dataCenterId ?? '';
    const settings = merged(settingsOf(worker.settings), request, targets, dataCenterId);
    return planned(known, { name: 'edit', workerId: worker.workerId, settings, force }, requestedBy);
  }

  /** The actions that need no more than the worker. Throws WORKER_UNKNOWN, WORKER_AMBIGUOUS, WORKER_BESIDE_SERVER. */
  async act(
    name: 'redeploy' | 'remove' | 'stop' | 'test' | 'start',
    reference: string,
    force: boolean,
    requestedBy: string,
  ): Promise<PlannedWorker> {
    const known = await this.fleet.find(reference);
    const { workerId, settings, hostName } = known.worker;
    if (!settings && name !== 'test') throw HostErrors.WORKER_BESIDE_SERVER({ worker: known.worker.name || hostName });
    return planned(known, name === 'test' || name === 'start' ? { name, workerId } : { name, workerId, force }, requestedBy);
  }

  /** Throws WORKER_UNKNOWN. */
  async removeOrphan(reference: string, requestedBy: string): Promise<PlannedWorker> {
    const { pluginId, orphan } = await this.fleet.orphan(reference);
    const { platformId, vmId, name: vmName } = orphan;
    return {
      order: { kind: 'worker', pluginId, requestedBy, action: { name: 'remove-orphan', platformId, vmId } },
      vm: { platformId, vmId, vmName },
    };
  }

  /** Rules with ids in place of names. Throws TARGET_NOT_FOUND. */
  async policy(platform: string, { automaticSettings, ...rules }: PolicyRequest): Promise<Partial<FleetPolicy>> {
    const given = definedOf(rules) as Partial<FleetPolicy>;
    if (!automaticSettings) return given;
    const { row, policy } = await this.fleet.policy(platform);
    const targets = await this.platforms.targets(row.id);
    return { ...given, automaticSettings: merged(policy.automaticSettings, automaticSettings, targets, '') };
  }
}

function planned({ pluginId, worker }: { pluginId: string; worker: PlannedSource }, action: WorkerAction, by: string): PlannedWorker {
  const { platformId, vmId, name, hostName } = worker;
  return { order: { kind: 'worker', pluginId, requestedBy: by, action }, vm: { platformId, vmId, vmName: name || hostName } };
}

interface PlannedSource {
  readonly platformId: string;
  readonly vmId: string;
  readonly name: string;
  readonly hostName: string;
}

/** The settings with what was asked for; targets of another data centre than `dataCenterId` (when known) do not count. */
function merged(
  settings: WorkerSettings,
  request: SettingsRequest,
  targets: ListTargetsResponse__Output,
  dataCenterId: string,
): WorkerSettings {
  const { storageDomain, nics, hosts, ...plain } = request;
  const near = (list: readonly Target__Output[]) =>
    dataCenterId === '' ? list : list.filter((target) => target.dataCenterId === dataCenterId);
  const idOf = (list: readonly Target__Output[], field: string, name: string) => targetOf(near(list), field, name).id;
  const address = (asked: AddressRequest | undefined): WorkerAddress => ({
    method: asked?.method ?? 'automatic',
    address: asked?.address ?? null,
    gateway: asked?.gateway ?? null,
  });
  return {
    ...settings,
    ...(definedOf(plain) as Partial<WorkerSettings>),
    ...(storageDomain === undefined
      ? {}
      : { storageDomainId: storageDomain === null ? null : idOf(targets.storageDomains, 'storageDomain', storageDomain) }),
    ...(nics === undefined
      ? {}
      : {
          nics: nics.map((nic) => ({
            vnicProfileId: idOf(targets.vnicProfiles, 'vnicProfile', nic.vnicProfile),
            ipv4: address(nic.ipv4),
            ipv6: address(nic.ipv6),
            routes: nic.routes.map(({ destination, via }) => ({ destination, via: via ?? null })),
            mtu: nic.mtu ?? null,
          })),
        }),
    ...(hosts === undefined ? {} : { hostIds: hosts.map((host) => idOf(targets.hosts, 'host', host)) }),
  };
}

/** By id, by name, or by `network/profile` where two networks have a profile of the same name. */
function targetOf(list: readonly Target__Output[], field: string, name: string): Target__Output {
  const exact = list.filter((target) => target.id === name);
  const named = exact.length > 0 ? exact : list.filter((target) => target.name === name || `${target.detail}/${target.name}` === name);
  if (named.length > 1) throw HostErrors.TARGET_AMBIGUOUS({ field, name, count: named.length });
  if (!named[0]) throw HostErrors.TARGET_NOT_FOUND({ field, name });
  return named[0];
}

function definedOf(value: object): object {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined));
}
