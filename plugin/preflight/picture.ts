/**
 * What the rules look at: one VM with everything that decides whether and how it can be backed up. Read with a handful of requests;
 * {@link Surroundings} is shared by the VMs of one call.
 */
import { hasCode } from '../../common/errors/tidemark-error';
import type { EngineBackup } from '../engine/backups';
import type { Checkpoint } from '../engine/checkpoints';
import type { Cluster } from '../engine/clusters';
import type { DiskAttachment } from '../engine/disk-attachments';
import type { Disk } from '../engine/disks';
import type { Engine } from '../engine/engine';
import type { Host } from '../engine/hosts';
import type { ImageTransfer } from '../engine/image-transfers';
import type { Version } from '../engine/mapping';
import type { Snapshot } from '../engine/snapshots';
import type { StorageDomain } from '../engine/storage-domains';
import type { Vm } from '../engine/vms';

/** The point that the next backup may build on. */
export interface PlanBase {
  /** Empty when the engine made none. */
  readonly checkpointId: string;
  readonly diskIds: readonly string[];
}

export interface Surroundings {
  readonly clusters: ReadonlyMap<string, Cluster>;
  /** With status, by id. */
  readonly storageDomains: ReadonlyMap<string, StorageDomain>;
  /** Undefined when our user may not see hosts. */
  readonly hosts: readonly Host[] | undefined;
  readonly transfers: readonly ImageTransfer[];
}

export interface AttachedDisk {
  readonly attachment: DiskAttachment;
  readonly disk: Disk;
}

export interface VmPicture {
  readonly vm: Vm;
  readonly disks: readonly AttachedDisk[];
  readonly snapshots: readonly Snapshot[];
  readonly backups: readonly EngineBackup[];
  readonly checkpoints: readonly Checkpoint[];
  /** The VM's own level, else its cluster's. */
  readonly level: Version | undefined;
  readonly cluster: Cluster | undefined;
  readonly surroundings: Surroundings;
  /** Undefined: not known, the plan is guessed from the newest checkpoint of ours. */
  readonly base: PlanBase | undefined;
  /** The caller wants a consistent copy or none. */
  readonly requireConsistency: boolean;
  /** Its disks are to be read by attaching a snapshot of them to a worker VM, not through the engine's backups. */
  readonly byAttachment: boolean;
}

/** How descriptions of ours begin (product defaults §9). */
export const ownMark = 'tidemark ';

/** What of an engine preflight reads; an {@link Engine} has it all. */
export interface PreflightEngine {
  readonly backups: Pick<Engine['backups'], 'list'>;
  readonly checkpoints: Pick<Engine['checkpoints'], 'list' | 'disks'>;
  readonly clusters: Pick<Engine['clusters'], 'list'>;
  readonly dataCenters: Pick<Engine['dataCenters'], 'list'>;
  readonly diskAttachments: Pick<Engine['diskAttachments'], 'list'>;
  readonly hosts: Pick<Engine['hosts'], 'list'>;
  readonly snapshots: Pick<Engine['snapshots'], 'list'>;
  readonly storageDomains: Pick<Engine['storageDomains'], 'listOfDataCenter'>;
  readonly transfers: Pick<Engine['transfers'], 'list'>;
  readonly vms: Pick<Engine['vms'], 'get' | 'find'>;
}

export async function readSurroundings(engine: PreflightEngine, signal?: AbortSignal): Promise<Surroundings> {
  const [clusters, centers, hosts, transfers] = await Promise.all([
    engine.clusters.list({ signal }),
    engine.dataCenters.list({ signal }),
    orNone(engine.hosts.list({ signal })),
    engine.transfers.list({ signal }),
  ]);
  const domains = await Promise.all(centers.map((center) => engine.storageDomains.listOfDataCenter(center.id, { signal })));
  return {
    clusters: new Map(clusters.map((cluster) => [cluster.id, cluster])),
    storageDomains: new Map(domains.flat().map((domain) => [domain.id, domain])),
    hosts,
    transfers,
  };
}

export async function readPicture(
  engine: PreflightEngine,
  vmId: string,
  options: {
    readonly surroundings?: Surroundings | undefined;
    readonly base?: PlanBase | undefined;
    readonly requireConsistency?: boolean;
    readonly byAttachment?: boolean;
    readonly signal?: AbortSignal | undefined;
  } = {},
): Promise<VmPicture> {
  const { signal } = options;
  const [vm, attachments, snapshots, backups, checkpoints, surroundings] = await Promise.all([
    engine.vms.get(vmId, { signal, with: ['tags'] }),
    engine.diskAttachments.list(vmId, { signal }),
    engine.snapshots.list(vmId, { signal }),
    engine.backups.list(vmId, { signal }),
    engine.checkpoints.list(vmId, { signal }),
    options.surroundings ?? readSurroundings(engine, signal),
  ]);
  const cluster = surroundings.clusters.get(vm.clusterId);
  return {
    vm,
    disks: attachments.flatMap((attachment) => (attachment.disk ? [{ attachment, disk: attachment.disk }] : [])),
    snapshots,
    backups,
    checkpoints,
    level: vm.customCompatibilityVersion ?? cluster?.version,
    cluster,
    surroundings,
    base: options.base ?? (await guessedBase(engine, vmId, checkpoints, signal)),
    requireConsistency: options.requireConsistency === true,
    byAttachment: options.byAttachment === true,
  };
}

/** Without a base from the caller: the newest checkpoint of ours, as the next run will most likely use it. */
async function guessedBase(
  engine: PreflightEngine,
  vmId: string,
  checkpoints: readonly Checkpoint[],
  signal: AbortSignal | undefined,
): Promise<PlanBase | undefined> {
  const newest = checkpoints.filter((checkpoint) => checkpoint.description.startsWith(ownMark)).at(-1);
  if (!newest) return undefined;
  const disks = await engine.checkpoints.disks(vmId, newest.id, { signal });
  return { checkpointId: newest.id, diskIds: disks.map((disk) => disk.id) };
}

/** Users without an administrator's role do not see hosts. */
async function orNone<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (hasCode(error, 'ENGINE_PERMISSION_MISSING', 'ENGINE_NOT_FOUND')) return undefined;
    throw error;
  }
}
