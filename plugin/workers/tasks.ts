import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { BackupDiskTask } from '../../proto/gen/tidemark/worker/v1/BackupDiskTask';
import type { RestoreDiskTask } from '../../proto/gen/tidemark/worker/v1/RestoreDiskTask';
import type { Counters } from '../operations/events';

/** Work on one disk, as the contract words it: it is handed on, not looked into. */
export type DiskTask = { readonly backupDisk: BackupDiskTask } | { readonly restoreDisk: RestoreDiskTask };

export type ImagePath = 'direct' | 'proxy' | 'local' | 'attached' | 'unknown';

export interface TaskProgressReport {
  readonly counters: Counters;
  readonly totalBytes: number;
}

/** How a task ended. */
export interface TaskOutcome {
  readonly failure?: TidemarkError | undefined;
  readonly counters: Counters;
  readonly imagePath: ImagePath;
  readonly imagePathReason: string;
}

/** Which workers may do a task. */
export interface Placement {
  /** Empty: only a worker beside the server. */
  readonly platformId: string;
  /** Preferred: the network path is shortest. */
  readonly clusterId: string;
  /** Where the VM runs and its disks lie, for the limits of hosts and storage domains; absent when that does not matter. */
  readonly hostId?: string | undefined;
  readonly storageDomainIds?: readonly string[] | undefined;
  /** Only a worker VM that can have disks attached, in the same data centre. */
  readonly needsAttachment?: { readonly dataCenterId: string } | undefined;
}
