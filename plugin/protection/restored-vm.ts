import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Wire } from '../engine/mapping';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { isAlreadyAttached } from './attachment-refusal';
import { isDefiniteRefusal } from './definite';
import type { EngineApi } from './engine-port';
import { transferPace } from './patience';
import type { Patience } from './patience';
import { ProtectionErrors } from './protection-errors';
import type { RestoreRequest } from './requests';
import type { PlannedNic, PlannedRestoreDisk, VmRestorePlan } from './restore-plan';
import type { RunNotes } from './run-notes';

const blankTemplate = '00000000-0000-0000-0000-000000000000';
const vmReadyMs = 5 * 60_000;
/** A disk stays locked for a moment after its upload has ended (engine REST API §13). */
const attachMs = 5 * 60_000;

/** The steps that make the shell of a restored VM: attributes, NICs, attachments, tags, power. Engine REST API §8.2. */
export class RestoredVm {
  constructor(
    private readonly engine: EngineApi,
    private readonly journal: Journal,
    private readonly patience: Patience,
    private readonly notes: RunNotes,
    private readonly signal: AbortSignal,
  ) {}

  /** Throws VM_NAME_TAKEN. */
  async create(request: RestoreRequest, plan: VmRestorePlan, mark: string): Promise<{ entry: JournalEntry; vmId: string }> {
    const { signal } = this;
    const entry = await this.journal.intend({
      operationId: request.operationId,
      platformId: request.platformId,
      vmId: '',
      kind: 'vm',
      mark,
      details: { name: plan.name },
    });
    const body: Wire & { name: string } = {
      ...plan.attributes,
      name: plan.name,
      // Proves to the janitor that it is ours; the stored description comes back at the end.
      description: mark,
      cluster: { id: plan.clusterId },
      template: { id: blankTemplate },
    };
    let vmId: string;
    try {
      const vm = await this.patience.whileConflict({ signal, deadlineMs: vmReadyMs }, async () => {
        const made = await this.engine.vms.findByName(plan.name, { signal });
        if (made && made.description !== mark) throw ProtectionErrors.VM_NAME_TAKEN({ name: plan.name });
        return made ?? (await this.patience.create(signal, (lingering) => this.engine.vms.create(body, { signal: lingering })));
      });
      vmId = vm.id;
    } catch (error) {
      if (isDefiniteRefusal(error) || hasCode(error, 'VM_NAME_TAKEN')) await this.#forgetUnlessMade(entry);
      if (hasCode(error, 'ENGINE_REFUSED') && /name.*(already|in use|used)/i.test(String(error.meta['detail']))) {
        throw ProtectionErrors.VM_NAME_TAKEN({ name: plan.name }, { cause: error });
      }
      throw error;
    }
    await this.journal.created(entry.entryId, vmId);
    await this.patience.poll({ signal, deadlineMs: vmReadyMs, everyMs: transferPace }, async () => {
      const vm = await this.engine.vms.find(vmId, { signal });
      return vm?.status === 'image_locked' ? undefined : true;
    });
    return { entry: { ...entry, objectId: vmId, state: 'created' }, vmId };
  }

  /** Throws MAC_IN_USE when the policy is to keep and an address is taken. */
  async addNics(vmId: string, plan: VmRestorePlan): Promise<void> {
    for (const nic of plan.nics) {
      if (nic.profileLost) {
        this.notes.tell(
          'nic-without-profile',
          'warning',
          `${nic.stored.name}: the vNIC profile "${nic.stored.vnicProfileName}" does not exist here, so the NIC has none. Choose one in the engine.`,
        );
      }
      const keep = plan.target.macPolicy !== 'new' && nic.stored.macAddress !== '';
      try {
        await this.#addNic(vmId, nic, keep ? nic.stored.macAddress : undefined);
      } catch (error) {
        if (!keep || !isMacTaken(error)) throw error;
        if (plan.target.macPolicy === 'keep') {
          throw ProtectionErrors.MAC_IN_USE({ macAddress: nic.stored.macAddress, nic: nic.stored.name }, { cause: error });
        }
        await this.#addNic(vmId, nic, undefined);
        this.notes.tell('mac-changed', 'info', `${nic.stored.name}: the address ${nic.stored.macAddress} is in use, so it has a new one.`);
      }
    }
  }

  async attach(vmId: string, diskId: string, planned: PlannedRestoreDisk): Promise<void> {
    const { signal } = this;
    await this.patience.whileConflict({ signal, deadlineMs: attachMs }, async () => {
      try {
        await this.engine.diskAttachments.add(vmId, { diskId, ...planned.attachment }, { signal });
      } catch (error) {
        // The answer to an earlier try was lost.
        if (!isAlreadyAttached(error) || !(await this.engine.diskAttachments.find(vmId, diskId, { signal }))) throw error;
      }
    });
  }

  /** Tags that exist, and the stored description. What fails here is told and does not undo the restore. */
  async finish(vmId: string, plan: VmRestorePlan): Promise<void> {
    const { signal } = this;
    await this.#orTell('tags-missing', 'Its tags could not be set', async () => {
      const known = new Set((await this.engine.tags.list({ signal })).map((tag) => tag.name));
      for (const tag of plan.configuration.tags) if (known.has(tag)) await this.engine.tags.assign(vmId, tag, { signal });
      const missing = plan.configuration.tags.filter((tag) => !known.has(tag));
      if (missing.length > 0) this.notes.tell('tags-missing', 'info', `Tags that do not exist here were left out: ${missing.join(', ')}.`);
    });
    if (plan.configuration.affinityGroups.length > 0) {
      const names = plan.configuration.affinityGroups.map((group) => group.name).join(', ');
      this.notes.tell('affinity-left-out', 'info', `The original is in affinity groups (${names}); the restored VM is in none.`);
    }
    await this.#orTell('description-missing', 'Its description could not be set', () =>
      this.engine.vms.update(vmId, { description: plan.description }, { signal }),
    );
  }

  async powerOn(vmId: string): Promise<void> {
    await this.#orTell('power-on-failed', 'The VM is complete but could not be started', () => this.engine.vms.start(vmId));
  }

  async #forgetUnlessMade(entry: JournalEntry): Promise<void> {
    const made = await this.engine.vms.findByName(entry.details['name'] ?? '');
    if (made?.description !== entry.mark) await this.journal.removed(entry.entryId);
  }

  async #addNic(vmId: string, nic: PlannedNic, macAddress: string | undefined): Promise<void> {
    const { signal } = this;
    await this.patience.whileConflict({ signal, deadlineMs: vmReadyMs }, () =>
      this.engine.nics.add(
        vmId,
        {
          name: nic.stored.name,
          interface: nic.stored.interface,
          plugged: nic.stored.plugged,
          linked: nic.stored.linked,
          ...(macAddress === undefined ? {} : { macAddress }),
          ...(nic.vnicProfileId === undefined ? {} : { vnicProfileId: nic.vnicProfileId }),
        },
        { signal },
      ),
    );
  }

  async #orTell(code: string, what: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.signal.aborted) throw error;
      this.notes.tell(code, 'warning', `${what}: ${isTidemarkError(error) ? error.message : 'an unexpected failure'}`);
    }
  }
}

function isMacTaken(error: unknown): error is TidemarkError {
  return hasCode(error, 'ENGINE_REFUSED', 'ENGINE_CONFLICT') && /\bMAC\b/i.test(String(error.meta['detail']));
}
