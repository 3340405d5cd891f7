/**
 * Checkpoints of a machine: a chain of rows, each standing for one bitmap of its name on its disks.
 *
 * Redefining (before a live backup) is where the engine notices that a bitmap is not there any more; it then drops all
 * checkpoints of the machine. Source: reference "oVirt engine REST API" sections 4.7 and 4.8.
 */
import type { DiskChain } from '../../hosts/driver';
import { chainOf, isLive, requireUsable } from '../disks/images';
import type { Requester } from '../disks/disk-service';
import { executionFailed } from '../http/fault';
import { takeLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { Checkpoint, Vm } from '../model/entities';
import { refuse } from '../states/refusals';
import { unfinishedBackup } from './backup-queries';

export class CheckpointService {
  constructor(private readonly core: Core) {}

  /** Root first; rows whose parent is unknown count as roots. */
  list(vmId: string): Checkpoint[] {
    const all = this.core.db.checkpoints.list((checkpoint) => checkpoint.vmId === vmId);
    const ids = new Set(all.map((checkpoint) => checkpoint.id));
    const ordered: Checkpoint[] = [];
    const visit = (parentId: string | undefined): void => {
      for (const checkpoint of all) {
        const isRoot = checkpoint.parentId === undefined || !ids.has(checkpoint.parentId);
        if (parentId === undefined ? isRoot : checkpoint.parentId === parentId) {
          ordered.push(checkpoint);
          visit(checkpoint.id);
        }
      }
    };
    visit(undefined);
    return ordered;
  }

  get(vmId: string, id: string): Checkpoint | undefined {
    const checkpoint = this.core.db.checkpoints.get(id);
    return checkpoint?.vmId === vmId ? checkpoint : undefined;
  }

  /** Appends to the end of the machine's chain. */
  add(id: string, vmId: string, description: string, diskIds: readonly string[]): Checkpoint {
    const parentId = this.list(vmId).at(-1)?.id;
    const createdAt = this.core.clock.now();
    return this.core.db.checkpoints.put({
      id,
      vmId,
      description,
      state: 'created',
      diskIds,
      createdAt,
      ...(parentId !== undefined && { parentId }),
    });
  }

  /** Removes the row; its children take its parent. */
  forget(id: string): void {
    const { db } = this.core;
    const checkpoint = db.checkpoints.get(id);
    if (checkpoint === undefined) return;
    db.transaction(() => {
      for (const child of db.checkpoints.list((other) => other.parentId === id))
        db.checkpoints.update(child.id, { parentId: checkpoint.parentId });
      db.checkpoints.delete(id);
    });
  }

  /** Disks of a checkpoint that still exist, as the hosts see them. */
  chainsOf(checkpoint: Checkpoint): DiskChain[] {
    const { db } = this.core;
    return checkpoint.diskIds.flatMap((id) => {
      const disk = db.disks.get(id);
      return disk === undefined || disk.pretended ? [] : [chainOf(db, disk)];
    });
  }

  /**
   * Makes the host know these checkpoints. When one of their bitmaps is missing or broken, every checkpoint of the machine is
   * dropped, event 10791 says so, and the start fails with an empty message list.
   */
  async redefine(vm: Vm, checkpoints: readonly Checkpoint[], backupId: string, requester: Requester): Promise<void> {
    try {
      await this.core.step('backup.redefine', vm.id);
      for (const checkpoint of checkpoints) {
        for (const chain of this.chainsOf(checkpoint)) {
          const bitmap = (await this.core.fleet.listBitmaps(chain)).find((candidate) => candidate.name === checkpoint.id);
          if (bitmap?.consistent !== true || !bitmap.recording)
            throw new Error(`bitmap ${checkpoint.id} of disk ${chain.diskId} is unusable`);
        }
      }
    } catch (error) {
      this.core.log.error(`redefining checkpoints of VM ${vm.id} failed`, error);
      await this.dropAll(vm.id);
      this.core.events.log(
        10791,
        'error',
        `Failed to redefine checkpoints for VM ${vm.name} (backup ${backupId}). All checkpoints were removed; a full backup is needed.`,
        { vmId: vm.id, userId: requester.userId },
        requester.correlationId,
      );
      throw executionFailed();
    }
  }

  /** Rows and bitmaps of all checkpoints of a machine. */
  async dropAll(vmId: string): Promise<void> {
    for (const checkpoint of this.list(vmId)) {
      await this.core.fleet.removeBitmaps(this.chainsOf(checkpoint), checkpoint.id).catch((error: unknown) => {
        this.core.log.error(`bitmaps of checkpoint ${checkpoint.id} stay behind`, error);
      });
      this.forget(checkpoint.id);
    }
  }

  /** DELETE. Live: done with the answer. Stopped: marked invalid first, removed afterwards. */
  async remove(vm: Vm, id: string, requester: Requester): Promise<void> {
    const { core } = this;
    const { db, locks } = core;
    const checkpoint = this.get(vm.id, id);
    if (checkpoint === undefined) throw refuse('CHECKPOINT_NOT_EXIST', id);
    if (unfinishedBackup(db, vm.id) !== undefined) throw refuse('VM_IS_DURING_BACKUP', vm.name);
    const holder = `checkpoint-${id}`;
    const request = {
      holder,
      message: 'VM_IS_DURING_A_BACKUP_CHECKPOINT_REMOVAL',
      exclusive: [`checkpoints:${vm.id}`],
      shared: [`vm:${vm.id}`],
    } as const;
    takeLocks(locks, request, vm.name);
    try {
      requireUsable(checkpoint.diskIds.flatMap((diskId) => db.disks.get(diskId) ?? []));
    } catch (error) {
      locks.release(holder);
      throw error;
    }
    const job = core.jobs.start(`Deleting checkpoint ${id} of VM ${vm.name}`, requester);
    const work = async (): Promise<void> => {
      try {
        await core.step('checkpoint.delete', id);
        await core.fleet.removeBitmaps(this.chainsOf(checkpoint), id);
        this.forget(id);
        core.jobs.end(job.id, true);
        core.events.log(
          10797,
          'normal',
          `Checkpoint ${id} of VM ${vm.name} was deleted.`,
          { vmId: vm.id, userId: requester.userId },
          requester.correlationId,
        );
      } catch (error) {
        db.checkpoints.update(id, { state: 'invalid' });
        core.jobs.end(job.id, false);
        core.events.log(
          10798,
          'error',
          `Failed to delete checkpoint ${id} of VM ${vm.name}.`,
          { vmId: vm.id, userId: requester.userId },
          requester.correlationId,
        );
        throw error;
      } finally {
        locks.release(holder);
      }
    };
    if (!isLive(vm)) {
      db.checkpoints.update(id, { state: 'invalid' });
      core.background(work);
      return;
    }
    try {
      await work();
    } catch (error) {
      core.log.error(`checkpoint ${id} was not deleted`, error);
      throw executionFailed();
    }
  }
}
