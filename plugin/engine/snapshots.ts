/** Snapshots of a VM. Engine REST API §5. */
import { diskOf } from './disks';
import type { Disk } from './disks';
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { compact, dateOf, flagOf, objectOf, textOf } from './mapping';
import type { Wire } from './mapping';

export interface Snapshot {
  readonly id: string;
  /** The only mark of ownership. */
  readonly description: string;
  /** ok, locked, in_preview. */
  readonly status: string | undefined;
  /** regular, active, stateless, preview. */
  readonly type: string | undefined;
  readonly createdAt: Date | undefined;
  readonly withMemory: boolean;
  /** With `ovf: true` only; the one OVF that holds TPM and NVRAM data. */
  readonly ovf: string | undefined;
}

/** Description of the snapshots that the engine makes for hybrid backups. */
export const engineBackupSnapshot = 'Auto-generated for Backup VM';

export class Snapshots {
  constructor(private readonly client: EngineClient) {}

  async list(vmId: string, options: RequestOptions = {}): Promise<readonly Snapshot[]> {
    return (await this.client.list(`/vms/${vmId}/snapshots`, 'snapshot', options)).map(snapshotOf);
  }

  async find(vmId: string, snapshotId: string, options: RequestOptions & { ovf?: boolean } = {}): Promise<Snapshot | undefined> {
    const { ovf, ...rest } = options;
    const wire = await this.client.find(`/vms/${vmId}/snapshots/${snapshotId}`, { ...rest, allContent: ovf });
    return wire && snapshotOf(wire);
  }

  /** Disks with the volume (`imageId`) that belongs to the snapshot. */
  async disks(vmId: string, snapshotId: string, options: RequestOptions = {}): Promise<readonly Disk[]> {
    return (await this.client.list(`/vms/${vmId}/snapshots/${snapshotId}/disks`, 'disk', options)).map(diskOf);
  }

  /** Without memory, always. Poll until ok. A lost answer is made good by the description, which must be unique. */
  async create(
    vmId: string,
    snapshot: { readonly description: string; readonly diskIds?: readonly string[] },
    options: RequestOptions = {},
  ): Promise<Snapshot> {
    const body = compact({
      description: snapshot.description,
      // The engine's default is true.
      persist_memorystate: false,
      disk_attachments: snapshot.diskIds === undefined ? undefined : { disk_attachment: snapshot.diskIds.map((id) => ({ disk: { id } })) },
    });
    const find = async () =>
      (await this.client.list(`/vms/${vmId}/snapshots`, 'snapshot', options)).find(
        (row) => textOf(row, 'description') === snapshot.description,
      );
    return snapshotOf(await this.client.create(`/vms/${vmId}/snapshots`, body, { timeoutMs: 120_000, ...options, find }));
  }

  /** Begins the merge; poll until it is gone, which may take hours. False when it is gone already. */
  remove(vmId: string, snapshotId: string, options: RequestOptions = {}): Promise<boolean> {
    return this.client.remove(`/vms/${vmId}/snapshots/${snapshotId}`, { ...options, query: { async: true } });
  }
}

export function snapshotOf(wire: Wire): Snapshot {
  const initialization = objectOf(wire, 'initialization');
  const configuration = initialization && objectOf(initialization, 'configuration');
  return {
    id: textOf(wire, 'id') ?? '',
    description: textOf(wire, 'description') ?? '',
    status: textOf(wire, 'snapshot_status'),
    type: textOf(wire, 'snapshot_type'),
    createdAt: dateOf(wire, 'date'),
    withMemory: flagOf(wire, 'persist_memorystate'),
    ovf: configuration && textOf(configuration, 'data'),
  };
}
