/** Checkpoints of a VM: from which changes are known. Advisory: a bitmap may be gone all the same. Engine REST API §4.7. */
import { hasCode } from '../../common/errors/tidemark-error';
import { diskOf } from './disks';
import type { Disk } from './disks';
import type { EngineClient } from './engine-client';
import type { RequestOptions } from './engine-session';
import { dateOf, textOf } from './mapping';

export interface Checkpoint {
  readonly id: string;
  readonly parentId: string | undefined;
  readonly description: string;
  /** created or invalid. */
  readonly state: string | undefined;
  readonly createdAt: Date | undefined;
}

export class Checkpoints {
  constructor(private readonly client: EngineClient) {}

  /** Root first. Other products' are among them: touch only your own. */
  async list(vmId: string, options: RequestOptions = {}): Promise<readonly Checkpoint[]> {
    const rows = await this.client.list(`/vms/${vmId}/checkpoints`, 'checkpoint', options);
    return rows.map((row) => ({
      id: textOf(row, 'id') ?? '',
      parentId: textOf(row, 'parent_id'),
      description: textOf(row, 'description') ?? '',
      state: textOf(row, 'state'),
      createdAt: dateOf(row, 'creation_date'),
    }));
  }

  /** Which disks it covers. */
  async disks(vmId: string, checkpointId: string, options: RequestOptions = {}): Promise<readonly Disk[]> {
    return (await this.client.list(`/vms/${vmId}/checkpoints/${checkpointId}/disks`, 'disk', options)).map(diskOf);
  }

  /** Begins the removal; poll the list. False when it is gone already. Throws ENGINE_CONFLICT during backups. */
  async remove(vmId: string, checkpointId: string, options: RequestOptions = {}): Promise<boolean> {
    try {
      return await this.client.remove(`/vms/${vmId}/checkpoints/${checkpointId}`, options);
    } catch (error) {
      // CHECKPOINT_NOT_EXIST comes as 400.
      if (!hasCode(error, 'ENGINE_REFUSED') || error.meta['httpStatus'] !== 400) throw error;
      if ((await this.list(vmId, options)).some((checkpoint) => checkpoint.id === checkpointId)) throw error;
      return false;
    }
  }
}
