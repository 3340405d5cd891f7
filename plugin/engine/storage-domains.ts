/** Storage domains. Their real status is per data centre. Engine REST API §2. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { flagOf, integerOf, nestedOf, objectOf, textOf } from './mapping';
import type { Wire } from './mapping';

export interface StorageDomain {
  readonly id: string;
  readonly name: string;
  /** data, iso, export, image, volume, managed_block_storage. */
  readonly type: string;
  /** nfs, iscsi, fcp, localfs, posixfs, glusterfs … */
  readonly storageType: string;
  /** active, maintenance …; only in listings of a data centre. */
  readonly status: string | undefined;
  /** Absent while unattached or inactive. */
  readonly availableBytes: number | undefined;
  readonly usedBytes: number | undefined;
  /** The engine refuses snapshots and disks below this. */
  readonly criticalFreeBytes: number;
  /** A domain kept for backups: VMs with disks there cannot start. */
  readonly backup: boolean;
  readonly dataCenterIds: readonly string[];
}

const gibibyte = 1024 ** 3;

export class StorageDomains {
  constructor(private readonly client: EngineClient) {}

  /** All, without useful status. */
  async list(options: RequestOptions = {}): Promise<readonly StorageDomain[]> {
    return (await this.client.list('/storagedomains', 'storage_domain', options)).map(storageDomainOf);
  }

  /** With status, as this data centre sees them. */
  async listOfDataCenter(dataCenterId: string, options: RequestOptions = {}): Promise<readonly StorageDomain[]> {
    return (await this.client.list(`/datacenters/${dataCenterId}/storagedomains`, 'storage_domain', options)).map(storageDomainOf);
  }

  async find(storageDomainId: string, options: RequestOptions = {}): Promise<StorageDomain | undefined> {
    const wire = await this.client.find(`/storagedomains/${storageDomainId}`, options);
    return wire && storageDomainOf(wire);
  }
}

/** Block domains allocate volumes as LVs: a thin disk needs its initial size told. */
export function isBlockStorage(storageType: string): boolean {
  return storageType === 'iscsi' || storageType === 'fcp';
}

function storageDomainOf(wire: Wire): StorageDomain {
  const storage = objectOf(wire, 'storage');
  return {
    id: textOf(wire, 'id') ?? '',
    name: textOf(wire, 'name') ?? '',
    type: textOf(wire, 'type') ?? '',
    storageType: (storage && textOf(storage, 'type')) ?? '',
    status: textOf(wire, 'status'),
    availableBytes: integerOf(wire, 'available'),
    usedBytes: integerOf(wire, 'used'),
    criticalFreeBytes: (integerOf(wire, 'critical_space_action_blocker') ?? 0) * gibibyte,
    backup: flagOf(wire, 'backup'),
    dataCenterIds: nestedOf(wire, 'data_centers', 'data_center').flatMap((center) => textOf(center, 'id') ?? []),
  };
}
