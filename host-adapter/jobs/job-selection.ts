import type { Platforms } from '../inventory/platforms';
import type { VirtualMachines } from '../inventory/virtual-machines';
import type { JobDefinition } from './job-definition';
import { selectVms } from './selector';
import type { SelectableVm } from './selector';

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
}
