/** Affinity groups of a cluster. Engine REST API §2. */
import { hasCode } from '../../common/errors/tidemark-error';
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { nestedOf, textOf } from './mapping';

export interface AffinityGroup {
  readonly id: string;
  readonly name: string;
  readonly vmIds: readonly string[];
}

export class AffinityGroups {
  constructor(private readonly client: EngineClient) {}

  async list(clusterId: string, options: RequestOptions = {}): Promise<readonly AffinityGroup[]> {
    const rows = await this.client.list(`/clusters/${clusterId}/affinitygroups`, 'affinity_group', {
      ...options,
      query: { follow: 'vms' },
    });
    return rows.map((row) => ({
      id: textOf(row, 'id') ?? '',
      name: textOf(row, 'name') ?? '',
      vmIds: nestedOf(row, 'vms', 'vm').flatMap((vm) => textOf(vm, 'id') ?? []),
    }));
  }

  /** VMs of the group are kept apart where that is possible. Made good by name when the answer is lost. */
  async createSoftAntiAffinity(clusterId: string, name: string, options: RequestOptions = {}): Promise<AffinityGroup> {
    const path = `/clusters/${clusterId}/affinitygroups`;
    const find = async () => (await this.client.list(path, 'affinity_group', options)).find((row) => textOf(row, 'name') === name);
    const rule = { enabled: true, positive: false, enforcing: false };
    const row = await this.client.create(path, { name, vms_rule: rule }, { ...options, find });
    return { id: textOf(row, 'id') ?? '', name, vmIds: [] };
  }

  /** Fine when the VM is a member already. */
  async addVm(clusterId: string, groupId: string, vmId: string, options: RequestOptions = {}): Promise<void> {
    try {
      await this.client.create(`/clusters/${clusterId}/affinitygroups/${groupId}/vms`, { id: vmId }, options);
    } catch (error) {
      if (!hasCode(error, 'ENGINE_REFUSED', 'ENGINE_UNAVAILABLE')) throw error;
      const group = (await this.list(clusterId, options)).find((one) => one.id === groupId);
      if (group?.vmIds.includes(vmId) !== true) throw error;
    }
  }
}
