import type { Cleaner } from '../janitor/cleaner';
import type { Journal } from '../journal/journal';
import type { VmKey } from '../operations/operation';
import type { EngineApi } from './engine-port';
import { jobPrefix } from './marks';
import type { Patience } from './patience';
import type { BasePoint } from './requests';

export interface LetGoOrder {
  readonly operationId: string;
  readonly vm: VmKey;
  readonly jobName: string;
  /** Of this run. */
  readonly mark: string;
  readonly base: BasePoint | undefined;
  /** The checkpoint of the point just committed; empty when there is none. */
  readonly newest: string;
}

const removeMs = 10 * 60_000;

/** Keeps just the newest checkpoint of a job on a VM: each one is a bitmap that costs the guest (engine REST API §4.7). */
export class CommittedCheckpoints {
  constructor(
    private readonly cleaner: Cleaner,
    private readonly journal: Journal,
    private readonly patience: Patience,
  ) {}

  /**
   * Deletes the base point's checkpoint and older ones of the same job. Other jobs and other products keep theirs. Journalled first, so
   * that what cannot be deleted now is deleted later.
   */
  async letGoOlder(engine: EngineApi, order: LetGoOrder): Promise<void> {
    const { operationId, vm, newest, base, mark } = order;
    const all = await this.patience.whileAway(undefined, () => engine.checkpoints.list(vm.vmId));
    const prefix = jobPrefix(order.jobName);
    const older = all.filter(
      (checkpoint) =>
        checkpoint.id !== newest &&
        checkpoint.description !== mark &&
        (checkpoint.id === base?.checkpointId || checkpoint.description.startsWith(`${prefix}session=`)),
    );
    for (const checkpoint of older) {
      const entry = await this.journal.intend({
        operationId,
        ...vm,
        kind: 'checkpoint',
        mark: checkpoint.description,
        objectId: checkpoint.id,
      });
      await this.journal.created(entry.entryId, checkpoint.id);
      await this.cleaner.removeCheckpoint({ ...entry, state: 'created' }, { deadlineMs: removeMs });
    }
  }
}
