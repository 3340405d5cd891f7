import { hasCode } from '../../common/errors/tidemark-error';
import type { GetVmResponse__Output } from '../../proto/gen/tidemark/plugin/v1/GetVmResponse';
import type { Vm__Output } from '../../proto/gen/tidemark/plugin/v1/Vm';
import { HostErrors } from '../errors/host-errors';
import type { PluginClient, PluginConnections } from '../registry/plugin-connections';
import type { Platforms } from './platforms';

const pageSize = 1000;

/** VMs of all platforms, by pages of the plug-ins' caches. */
export class VirtualMachines {
  constructor(
    private readonly plugins: PluginConnections,
    private readonly platforms: Platforms,
  ) {}

  /** All VMs, or those of one platform, by name. Throws PLUGIN_LOST … when a plug-in that has platforms cannot be asked. */
  async list(platform?: string): Promise<Vm__Output[]> {
    const found: Vm__Output[] = [];
    for (const row of platform === undefined ? await this.#pluginIds() : [await this.platforms.row(platform)]) {
      const client = await this.plugins.of(row.pluginId);
      found.push(...(await readAll(client, platform === undefined ? '' : row.id)));
    }
    return found.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.vmId < b.vmId ? -1 : 1));
  }

  /** One VM by id or name. Throws VM_UNKNOWN, VM_AMBIGUOUS. */
  async find(reference: string, platform?: string): Promise<Vm__Output> {
    return VirtualMachines.pick(await this.list(platform), reference);
  }

  /** The same of VMs that were listed. Throws VM_UNKNOWN, VM_AMBIGUOUS. */
  static pick(all: readonly Vm__Output[], reference: string): Vm__Output {
    const exact = all.filter((vm) => vm.vmId === reference);
    const matching = exact.length > 0 ? exact : all.filter((vm) => vm.name === reference);
    if (matching.length > 1) throw HostErrors.VM_AMBIGUOUS({ vm: reference, count: matching.length });
    if (!matching[0]) throw HostErrors.VM_UNKNOWN({ vm: reference });
    return matching[0];
  }

  /** With disks and NICs, read afresh. */
  async show(vm: Vm__Output): Promise<GetVmResponse__Output> {
    const client = await this.platforms.pluginOf(vm.platformId);
    return client.inventory.call('GetVm', { platformId: vm.platformId, vmId: vm.vmId }, { deadlineMs: 30_000 });
  }

  async #pluginIds(): Promise<{ pluginId: string; id: string }[]> {
    const ids = new Set((await this.platforms.list()).map((one) => one.row.pluginId));
    return [...ids].map((pluginId) => ({ pluginId, id: '' }));
  }
}

/** Reads all pages; a listing that changed in between (PAGE_TOKEN_INVALID) is read again from the top. */
async function readAll(client: PluginClient, platformId: string): Promise<Vm__Output[]> {
  for (let restarts = 0; ; restarts += 1) {
    const found: Vm__Output[] = [];
    try {
      for (let pageToken = ''; ;) {
        const reply = await client.inventory.call('ListVms', { platformId, pageSize, pageToken }, { deadlineMs: 30_000, attempts: 2 });
        found.push(...reply.vms);
        if (reply.nextPageToken === '') return found;
        pageToken = reply.nextPageToken;
      }
    } catch (error) {
      if (!hasCode(error, 'PAGE_TOKEN_INVALID') || restarts >= 3) throw error;
    }
  }
}
