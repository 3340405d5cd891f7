import { toTidemarkError } from '../../common/errors/common-errors';
import { pause } from '../../common/rpc/call';
import type { Platforms } from '../inventory/platforms';
import type { VirtualMachines } from '../inventory/virtual-machines';
import type { JobDefinition } from './job-definition';
import { selectVms } from './selector';
import type { SelectableVm } from './selector';
import { pluginReason } from './task-context';

/** The VMs that a job means now. */
export class JobSelection {
  constructor(
    private readonly platforms: Platforms,
    private readonly vms: VirtualMachines,
  ) {}

  /** All of the job's VMs, or those of them that `only` names (ids or names). Throws PLUGIN_LOST … */
  async vmsOf(definition: JobDefinition, only: readonly string[] = []): Promise<SelectableVm[]> {
    const platformIds = new Map((await this.platforms.list()).map(({ row }) => [row.name, row.id]));
    const selected = selectVms(await this.vms.list(), definition.selector, platformIds);
    return only.length === 0 ? selected : selected.filter((vm) => only.includes(vm.vmId) || only.includes(vm.name));
  }
  /** The same; waits for plug-ins that cannot be asked now, for so long. Undefined when the signal aborts meanwhile. */
  async patiently(
    definition: JobDefinition,
    only: readonly string[],
    limitMs: number,
    signal: AbortSignal,
  ): Promise<SelectableVm[] | undefined> {
    for (const began = performance.now(); ;) {
      try {
        return await this.vmsOf(definition, only);
      } catch (thrown) {
        const error = toTidemarkError(thrown, 'selecting VMs');
        if (pluginReason(error) === undefined || performance.now() - began > limitMs) throw error;
      }
      await pause(1000, signal).catch(() => undefined);
      if (signal.aborted) return undefined;
    }
  }
}
