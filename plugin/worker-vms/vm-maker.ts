/**
 * Makes the VM of a worker: its disk, the VM, disk and NICs on it, tags, anti-affinity, no screen. Journalled before each thing is made, so
 * that what a failure leaves is found and removed. Engine REST API §9.1.
 */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import type { OperationScope } from '../operations/operation';
import { isDefiniteRefusal } from '../protection/definite';
import { transferPace } from '../protection/patience';
import type { Patience } from '../protection/patience';
import { ProtectionErrors } from '../protection/protection-errors';
import type { BootDisks } from './boot-disk';
import { vmAttributes } from './deployment-plan';
import type { DeploymentPlan } from './deployment-plan';
import type { WorkerEngine } from './engine-port';
import { imageDiskName, workerComment, workerTags } from './marks';
import type { WorkerMark } from './marks';
import { engineMs } from './timing';
import type { WorkerImage } from './worker-image';

export interface MakeOrder {
  readonly plan: DeploymentPlan;
  /** In the engine; another than the worker's while a former VM still has that. */
  readonly vmName: string;
  readonly description: string;
  readonly mark: WorkerMark;
  readonly image: WorkerImage;
}

export interface MadeVm {
  readonly vmId: string;
  readonly vmEntry: JournalEntry;
  readonly diskEntry: JournalEntry;
}

const affinityGroupName = 'tidemark-workers';

export class VmMaker {
  constructor(
    private readonly disks: BootDisks,
    private readonly journal: Journal,
    private readonly patience: Patience,
    private readonly logger: Logger,
  ) {}

  /** The VM is down and complete. Throws VM_NAME_TAKEN, WORKER_DISK_LOST, WORKER_IMAGE_NOT_UPLOADED, CANCELLED, errors of the engine. */
  async make(engine: WorkerEngine, scope: OperationScope, order: MakeOrder): Promise<MadeVm> {
    const { plan, image, mark, vmName } = order;
    const { signal } = scope;
    const comment = workerComment(mark);
    const diskEntry = await this.disks.make(engine, scope, {
      // The operation's id in it makes the name ours alone, and proves it.
      name: `${vmName}-system-${mark.operationId}`,
      description: `${comment} image=${imageDiskName(image.version)}`,
      domain: plan.domain,
      image,
    });
    scope.phase('starting');
    const vmEntry = await this.#create(engine, scope, order, comment);
    const vmId = vmEntry.objectId ?? '';
    await this.patience.whileConflict({ signal, deadlineMs: engineMs }, () =>
      engine.diskAttachments.add(
        vmId,
        { diskId: diskEntry.objectId ?? '', interface: 'virtio_scsi', bootable: true, active: true },
        { signal },
      ),
    );
    for (const [index, nic] of plan.nics.entries()) {
      const body = { name: `nic${index + 1}`, interface: 'virtio', plugged: true, linked: true, vnicProfileId: nic.vnicProfileId };
      await this.patience.whileConflict({ signal, deadlineMs: engineMs }, () => engine.nics.add(vmId, body, { signal }));
    }
    for (const tag of workerTags) {
      await engine.tags.ensure(tag, { signal });
      await engine.tags.assign(vmId, tag, { signal });
    }
    await this.#optional('without screen', () => engine.graphicsConsoles.removeAll(vmId, { signal }), signal);
    await this.#optional('apart from other workers', () => this.#keepApart(engine, plan.cluster.id, vmId, signal), signal);
    return { vmId, vmEntry, diskEntry };
  }

  async #create(engine: WorkerEngine, scope: OperationScope, order: MakeOrder, comment: string): Promise<JournalEntry> {
    const { signal, header } = scope;
    const { plan, vmName, description } = order;
    const entry = await this.journal.intend({
      operationId: header.operationId,
      platformId: header.platformId,
      vmId: '',
      kind: 'vm',
      mark: comment,
      details: { name: vmName, role: 'worker', workerId: order.mark.workerId },
    });
    let vmId: string;
    try {
      const vm = await this.patience.whileConflict({ signal, deadlineMs: engineMs }, async () => {
        const made = await engine.vms.findByName(vmName, { signal });
        if (made && made.comment !== comment) throw ProtectionErrors.VM_NAME_TAKEN({ name: vmName });
        const body = vmAttributes(plan, { name: vmName, description, comment });
        return made ?? (await this.patience.create(signal, (lingering) => engine.vms.create(body, { signal: lingering })));
      });
      vmId = vm.id;
    } catch (error) {
      if (isDefiniteRefusal(error) || hasCode(error, 'VM_NAME_TAKEN')) {
        const made = await engine.vms.findByName(vmName);
        if (made?.comment !== comment) await this.journal.removed(entry.entryId);
      }
      throw error;
    }
    await this.journal.created(entry.entryId, vmId);
    await this.patience.poll({ signal, deadlineMs: engineMs, everyMs: transferPace }, async () => {
      const vm = await engine.vms.find(vmId, { signal });
      return vm?.status === 'image_locked' ? undefined : true;
    });
    return { ...entry, objectId: vmId, state: 'created' };
  }

  async #keepApart(engine: WorkerEngine, clusterId: string, vmId: string, signal: AbortSignal): Promise<void> {
    const groups = await engine.affinityGroups.list(clusterId, { signal });
    const group =
      groups.find((one) => one.name === affinityGroupName) ??
      (await engine.affinityGroups.createSoftAntiAffinity(clusterId, affinityGroupName, { signal }));
    await engine.affinityGroups.addVm(clusterId, group.id, vmId, { signal });
  }

  /** A worker works without it, e.g. because our user may not do it. */
  async #optional(what: string, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (signal.aborted || !isTidemarkError(error)) throw error;
      this.logger.warn('a worker VM is not as it should be', { what, code: error.code, message: error.message });
    }
  }
}
