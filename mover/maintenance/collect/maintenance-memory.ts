import type { Logger } from '../../../common/log/logger';
import { RepositoryErrors } from '../../errors/mover-errors';
import type { LeaseWatch } from '../../repository/sharing/lease-object';
import { MaintenanceLease } from '../../repository/sharing/maintenance-lease';
import type { Repository } from '../../repository/repository';

/** An open session whose owner is gone, since when, by this process's own clock. */
interface Abandoned {
  readonly bytes: Buffer;
  readonly since: number;
}

/** What has to be remembered from one maintenance to the next, because who is gone elsewhere shows only with time. One per process. */
export class MaintenanceMemory {
  private readonly watches = new Map<string, LeaseWatch>();
  private readonly abandoned = new Map<string, Abandoned>();

  /** Takes the maintenance lease. Throws MAINTENANCE_BUSY. */
  lease(repository: Repository, leaseDurationMs: number, logger: Logger): Promise<MaintenanceLease> {
    const { id, writerId, store } = repository;
    if (writerId === undefined) throw RepositoryErrors.REPOSITORY_LOCK_LOST({ repositoryId: id });
    let watch = this.watches.get(id);
    if (!watch) this.watches.set(id, (watch = { text: '', since: 0 }));
    return MaintenanceLease.acquire(store, { instanceId: writerId, leaseDurationMs, watch }, logger);
  }

  /** For how long this record of an open session has not changed while its owner was gone; counted from the first call. */
  abandonedFor(recordName: string, bytes: Buffer): number {
    let found = this.abandoned.get(recordName);
    if (!found?.bytes.equals(bytes)) this.abandoned.set(recordName, (found = { bytes, since: performance.now() }));
    return performance.now() - found.since;
  }

  /** It ended, or its owner is back. */
  forget(recordName: string): void {
    this.abandoned.delete(recordName);
  }
}
