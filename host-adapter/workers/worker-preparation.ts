import { toTidemarkError } from '../../common/errors/common-errors';
import { timestampToWire } from '../../common/rpc/bytes';
import type { Logger } from '../../common/log/logger';
import type { StoredJob } from '../catalogue/job-store';
import type { Platforms } from '../inventory/platforms';
import type { JobSelection } from '../jobs/job-selection';

/** Tells plug-ins that work is coming, so that worker VMs are up by then. Nothing depends on it: what fails is only logged. */
export class WorkerPreparation {
  constructor(
    private readonly platforms: Platforms,
    private readonly selection: JobSelection,
    private readonly logger: Logger,
  ) {}

  /** Workers for what a job selects now. False when somebody could not be told; never rejects. */
  async forJob(job: StoredJob, neededAt: Date): Promise<boolean> {
    try {
      return await this.forVms(await this.selection.vmsOf(job.definition), neededAt);
    } catch (thrown) {
      this.#failed(thrown, { jobId: job.id });
      return false;
    }
  }

  /** Workers for VMs: one call per platform. False when a plug-in could not be told; never rejects. */
  async forVms(vms: readonly { readonly platformId: string; readonly vmId: string }[], neededAt: Date): Promise<boolean> {
    let told = true;
    const byPlatform = new Map<string, string[]>();
    for (const { platformId, vmId } of vms) {
      const ids = byPlatform.get(platformId) ?? [];
      ids.push(vmId);
      byPlatform.set(platformId, ids);
    }
    for (const [platformId, vmIds] of byPlatform) {
      try {
        const plugin = await this.platforms.pluginOf(platformId);
        const request = { platformId, vmIds, neededAt: timestampToWire(neededAt) };
        await plugin.workers.call('PrepareWorkers', request, { deadlineMs: 5_000 });
      } catch (thrown) {
        told = false;
        this.#failed(thrown, { platformId });
      }
    }
    return told;
  }

  #failed(thrown: unknown, about: Readonly<Record<string, string>>): void {
    const { code, message } = toTidemarkError(thrown, 'preparing workers');
    this.logger.info('workers could not be prepared', { ...about, code, message });
  }
}
