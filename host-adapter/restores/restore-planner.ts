/**
 * Turns what an administrator typed into a restore order: names into ids, defaults filled in, everything checked that can be checked
 * before anything begins. The rest is the plug-in's to refuse.
 */
import type { Target__Output } from '../../proto/gen/tidemark/plugin/v1/Target';
import { CommonErrors } from '../../common/errors/common-errors';
import type { PointStore, StoredPoint } from '../catalogue/point-store';
import { HostErrors } from '../errors/host-errors';
import type { Platforms } from '../inventory/platforms';
import type { RestoreOrder } from '../jobs/session-record';
import type { Transport } from '../jobs/transport';
import type { PluginConnections } from '../registry/plugin-connections';

export interface VmRestoreRequest {
  readonly point: string;
  readonly platform?: string | undefined;
  readonly name?: string | undefined;
  readonly cluster?: string | undefined;
  readonly storageDomain?: string | undefined;
  readonly storageDomains: Readonly<Record<string, string>>;
  readonly vnicProfiles: Readonly<Record<string, string | null>>;
  readonly macPolicy: 'keep' | 'keep-if-free' | 'new';
  readonly powerOn: boolean;
  readonly transport: Transport;
  readonly disks: readonly string[];
}

export interface PlannedRestore {
  readonly order: RestoreOrder;
  readonly point: StoredPoint;
}

export class RestorePlanner {
  constructor(
    private readonly points: PointStore,
    private readonly platforms: Platforms,
    private readonly plugins: PluginConnections,
  ) {}

  /** Throws POINT_UNKNOWN, POINT_UNUSABLE, PLATFORM_…, TARGET_NOT_FOUND, POINT_DISK_NOT_FOUND. */
  async vm(request: VmRestoreRequest): Promise<PlannedRestore> {
    const point = await this.#point(request.point);
    const platform = await this.#platform(point, request.platform);
    const targets = await this.platforms.targets(platform.id);
    const disks = request.disks.length > 0 ? request.disks.map((disk) => diskOf(point, disk)) : point.disks;
    const optional = (list: readonly Target__Output[], field: string, name: string | undefined) =>
      name === undefined ? '' : targetOf(list, field, name);
    return {
      point,
      order: {
        kind: 'restore',
        pointId: point.id,
        platformId: platform.id,
        pluginId: platform.pluginId,
        diskIds: disks.map((disk) => disk.diskId),
        transport: request.transport,
        to: {
          target: 'vm',
          name: request.name ?? '',
          clusterId: optional(targets.clusters, 'cluster', request.cluster),
          storageDomainId: optional(targets.storageDomains, 'storageDomain', request.storageDomain),
          storageDomains: Object.entries(request.storageDomains).map(([fromId, to]) => ({
            fromId,
            toId: targetOf(targets.storageDomains, 'storageDomain', to),
          })),
          vnicProfiles: Object.entries(request.vnicProfiles).map(([fromId, to]) => ({
            fromId,
            toId: to === null ? '' : targetOf(targets.vnicProfiles, 'vnicProfile', to),
          })),
          macPolicy: request.macPolicy,
          powerOn: request.powerOn,
        },
      },
    };
  }

  /** Throws as {@link vm}. */
  async disk(request: {
    readonly point: string;
    readonly disk: string;
    readonly platform?: string | undefined;
    readonly storageDomain: string;
    readonly name?: string | undefined;
    readonly transport: Transport;
  }): Promise<PlannedRestore> {
    const point = await this.#point(request.point);
    const platform = await this.#platform(point, request.platform);
    const targets = await this.platforms.targets(platform.id);
    const storageDomainId = targetOf(targets.storageDomains, 'storageDomain', request.storageDomain);
    return {
      point,
      order: {
        kind: 'restore',
        pointId: point.id,
        platformId: platform.id,
        pluginId: platform.pluginId,
        diskIds: [diskOf(point, request.disk).diskId],
        transport: request.transport,
        to: { target: 'disk', storageDomainId, name: request.name ?? '' },
      },
    };
  }

  /** Any usable plug-in will do: its worker beside the server writes the file. */
  async file(request: {
    readonly point: string;
    readonly disk: string;
    readonly path: string;
    readonly format: 'raw' | 'qcow2';
  }): Promise<PlannedRestore> {
    if (!request.path.startsWith('/')) throw CommonErrors.ARGUMENT_INVALID({ field: 'path', problem: 'must be absolute' });
    const point = await this.#point(request.point);
    const disk = diskOf(point, request.disk);
    const [plugin] = await this.plugins.usable();
    const { id: pluginId } = plugin ?? (await this.plugins.one(undefined));
    return {
      point,
      order: {
        kind: 'restore',
        pointId: point.id,
        platformId: '',
        pluginId,
        diskIds: [disk.diskId],
        to: { target: 'file', path: request.path, format: request.format },
      },
    };
  }

  async #point(id: string): Promise<StoredPoint> {
    const point = await this.points.find(id);
    if (!point) throw HostErrors.POINT_UNKNOWN({ point: id });
    if (point.damaged) throw HostErrors.POINT_UNUSABLE({ pointId: id });
    return point;
  }

  /** The one named; else where the VM came from, when that is still there; else the only one. */
  async #platform(point: StoredPoint, reference: string | undefined) {
    if (reference !== undefined) return this.platforms.row(reference);
    const all = await this.platforms.list();
    return all.find(({ row }) => row.id === point.platformId)?.row ?? this.platforms.one(undefined);
  }
}

function diskOf(point: StoredPoint, reference: string) {
  const found = point.disks.find((disk) => disk.diskId === reference) ?? point.disks.find((disk) => disk.name === reference);
  if (!found) throw HostErrors.POINT_DISK_NOT_FOUND({ disk: reference, pointId: point.id });
  return found;
}

function targetOf(list: readonly Target__Output[], field: string, name: string): string {
  const found = list.find((target) => target.id === name) ?? list.find((target) => target.name === name);
  if (!found) throw HostErrors.TARGET_NOT_FOUND({ field, name });
  return found.id;
}
