/** Image transfers: the engine's permission and URL to read or write one disk. Engine REST API §6. */
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { Secret } from '../../common/log/redact';
import { compact, flagOf, idOf, integerOf, textOf } from './mapping';
import type { Wire } from './mapping';

export type TransferPhase =
  | 'unknown'
  | 'initializing'
  | 'transferring'
  | 'resuming'
  | 'paused_system'
  | 'paused_user'
  | 'cancelled'
  | 'cancelled_system'
  | 'cancelled_user'
  | 'finalizing_success'
  | 'finalizing_failure'
  | 'finalizing_cleanup'
  | 'finished_success'
  | 'finished_failure'
  | 'finished_cleanup';

export interface ImageTransfer {
  readonly id: string;
  readonly phase: TransferPhase;
  readonly direction: string | undefined;
  /** The engine's `image.id`, which is the disk's id. Backup and snapshot are not told. */
  readonly diskId: string | undefined;
  readonly hostId: string | undefined;
  readonly active: boolean;
  readonly transferredBytes: number;
  /** As it was asked for. */
  readonly inactivityTimeoutSeconds: number | undefined;
  /** Secret: who has it may read or write the disk. Absent before `transferring` and while finalizing. */
  readonly transferUrl: Secret | undefined;
  readonly proxyUrl: Secret | undefined;
}

export interface NewTransfer {
  readonly direction: 'download' | 'upload';
  /** Exactly one of disk and volume. */
  readonly diskId?: string;
  /** A volume of a snapshot, see Disks.volumes. */
  readonly volumeId?: string;
  /** Reads the disk as of a backup; always through NBD, format raw. */
  readonly backupId?: string;
  /** raw: bytes of the virtual disk whatever the format. cow or absent: the stored file. */
  readonly format?: 'raw' | 'cow';
  readonly hostId?: string;
  readonly shallow?: boolean;
  /** Seconds without I/O before the time-out policy strikes; default 600, since extents of a large disk take minutes. */
  readonly inactivityTimeoutSeconds?: number;
  readonly timeoutPolicy?: 'legacy' | 'pause' | 'cancel';
}

/** Final. `finished_cleanup` still turns into `finished_failure`, and counts as running for the backup until then. */
export const finishedTransferPhases: readonly TransferPhase[] = ['finished_success', 'finished_failure'];

/** Preparation (volume, NBD server, ticket) runs in the request. */
const createTimeoutMs = 120_000;

export class ImageTransfers {
  constructor(private readonly client: EngineClient) {}

  /**
   * Poll until it has URLs. When the answer is lost (ENGINE_UNAVAILABLE) a transfer may exist: look for one of this disk in {@link list}
   * that is not in the journal, since transfers carry no mark of ours.
   */
  async create(transfer: NewTransfer, options: RequestOptions = {}): Promise<ImageTransfer> {
    const body = compact({
      disk: transfer.diskId === undefined ? undefined : { id: transfer.diskId },
      snapshot: transfer.volumeId === undefined ? undefined : { id: transfer.volumeId },
      backup: transfer.backupId === undefined ? undefined : { id: transfer.backupId },
      // The engine's default is upload.
      direction: transfer.direction,
      format: transfer.format,
      host: transfer.hostId === undefined ? undefined : { id: transfer.hostId },
      shallow: transfer.shallow,
      inactivity_timeout: transfer.inactivityTimeoutSeconds ?? 600,
      timeout_policy: transfer.timeoutPolicy ?? (transfer.direction === 'download' ? 'cancel' : 'pause'),
    });
    return transferOf(await this.client.create('/imagetransfers', body, { timeoutMs: createTimeoutMs, ...options }));
  }

  /** Undefined when the engine forgot it: then the disk tells the outcome. */
  async find(transferId: string, options: RequestOptions = {}): Promise<ImageTransfer | undefined> {
    const wire = await this.client.find(`/imagetransfers/${transferId}`, options);
    return wire && transferOf(wire);
  }

  async list(options: RequestOptions = {}): Promise<readonly ImageTransfer[]> {
    return (await this.client.list('/imagetransfers', 'image_transfer', options)).map(transferOf);
  }

  /** Close all connections to the ticket first. Only asks: poll until finished. Never cancel afterwards. */
  async finalize(transferId: string, options: RequestOptions = {}): Promise<void> {
    await this.client.actAgain(`/imagetransfers/${transferId}/finalize`, {}, options);
  }

  /** Only asks: poll until finished. Cancelling an upload deletes the disk. */
  async cancel(transferId: string, options: RequestOptions = {}): Promise<void> {
    await this.client.actAgain(`/imagetransfers/${transferId}/cancel`, {}, options);
  }

  /** A paused upload goes on with a new ticket: read the URLs again. */
  async resume(transferId: string, options: RequestOptions = {}): Promise<void> {
    await this.client.act(`/imagetransfers/${transferId}/resume`, {}, options);
  }

  async extend(transferId: string, options: RequestOptions = {}): Promise<void> {
    await this.client.actAgain(`/imagetransfers/${transferId}/extend`, {}, options);
  }
}

function transferOf(wire: Wire): ImageTransfer {
  const transferUrl = textOf(wire, 'transfer_url');
  const proxyUrl = textOf(wire, 'proxy_url');
  return {
    id: textOf(wire, 'id') ?? '',
    phase: (textOf(wire, 'phase') ?? 'unknown') as TransferPhase,
    direction: textOf(wire, 'direction'),
    diskId: idOf(wire, 'image') ?? idOf(wire, 'disk'),
    hostId: idOf(wire, 'host'),
    active: flagOf(wire, 'active'),
    transferredBytes: integerOf(wire, 'transferred') ?? 0,
    inactivityTimeoutSeconds: integerOf(wire, 'inactivity_timeout'),
    transferUrl: transferUrl === undefined || transferUrl === '' ? undefined : new Secret(transferUrl),
    proxyUrl: proxyUrl === undefined || proxyUrl === '' ? undefined : new Secret(proxyUrl),
  };
}
