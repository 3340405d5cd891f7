/**
 * Gets the disks of a VM into the mover, one way or the other: decides by transport.ts, holds the worker slots meanwhile, and takes the
 * other way within the same run when no image daemon can be reached.
 */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import type { Cleaner } from '../janitor/cleaner';
import type { OperationScope } from '../operations/operation';
import type { Dispatcher } from '../workers/dispatcher';
import type { Placement } from '../workers/tasks';
import type { AttachmentRounds } from './attachment-rounds';
import type { BackupRounds, RoundsInput, RoundsResult } from './backup-rounds';
import type { EngineApi } from './engine-port';
import { backupMark } from './marks';
import type { Patience } from './patience';
import type { BackupRequest } from './requests';
import type { RunNotes } from './run-notes';
import { SlotPool } from './slot-pool';
import { planAttachedDisks, planDisks } from './strategy';
import { fallbackTransport, firstTransport } from './transport';
import { storedDiskOf } from './vm-picture';
import type { VmPicture } from './vm-picture';
import { tellHop, tellLoss } from './worker-notes';

export interface ReadingInput {
  readonly engine: EngineApi;
  readonly request: BackupRequest;
  readonly scope: OperationScope;
  readonly notes: RunNotes;
  readonly picture: VmPicture;
  readonly selected: VmPicture['attachments'];
}

/** An image transfer that failed leaves little, and the other way must not begin before it is gone. */
const cleanUpMs = 5 * 60_000;

export class BackupReading {
  constructor(
    private readonly dispatcher: Dispatcher,
    private readonly rounds: BackupRounds,
    private readonly attachments: AttachmentRounds,
    private readonly cleaner: Cleaner,
    private readonly patience: Patience,
  ) {}

  /** Worker slots are free again when it ends, however it ends. */
  async read(input: ReadingInput): Promise<RoundsResult> {
    const { request, scope, notes } = input;
    const first = firstTransport(request.transport);
    if (first.transport === 'disk-attachment') {
      notes.tell('transport-attachment', 'info', 'Its disks are read by attaching a snapshot of them to a worker VM, as the job says.');
      return await this.#byAttachment(input);
    }
    try {
      return await this.#byTransfer(input);
    } catch (failure) {
      if (scope.signal.aborted || !fallbackTransport({ wanted: request.transport, failure, workerCanAttach: true })) throw failure;
      return await this.#instead(input, failure);
    }
  }

  async #byTransfer(input: ReadingInput): Promise<RoundsResult> {
    const { engine, request, scope, notes, selected } = input;
    const plan = await this.#plan(input);
    const pool = this.#pool(input, this.#placement(input));
    try {
      await pool.reserve(scope.signal);
      tellHop(notes, pool.slot);
      const mark = backupMark(request.jobName, request.sessionId);
      return await this.rounds.run({ ...common(input), engine, slots: pool, mark, plan, disks: storedDisks(selected) });
    } finally {
      pool.release();
    }
  }

  async #byAttachment(input: ReadingInput, reserved?: SlotPool, imageServiceAway?: string): Promise<RoundsResult> {
    const { engine, request, scope, notes, selected } = input;
    const plan = planAttachedDisks({ disks: selected.map(({ disk }) => ({ id: disk.id, format: disk.format })), ...planBase(request) });
    const pool = reserved ?? (await this.#attachmentPool(input));
    try {
      await pool.reserve(scope.signal);
      tellHop(notes, pool.slot);
      const disks = storedDisks(selected);
      return await this.attachments.run({ ...common(input), engine, slots: pool, mark: '', plan, disks, imageServiceAway });
    } finally {
      pool.release();
    }
  }

  /** No image daemon could be reached: what the first way made is removed, then the other one is taken, if there is a worker for it. */
  async #instead(input: ReadingInput, failure: unknown): Promise<RoundsResult> {
    const { request, scope, notes } = input;
    const pool = await this.#attachmentPool(input);
    try {
      scope.phase('starting');
      const settled = await this.cleaner.settle(request.operationId, { signal: scope.signal, deadlineMs: cleanUpMs });
      if (settled.some((one) => one.state !== 'removed')) throw failure;
      await pool.reserve(scope.signal).catch((error: unknown) => {
        // Nobody can attach: what went wrong first is what has to be mended.
        throw hasCode(error, 'WORKER_NONE') ? failure : error;
      });
    } catch (error) {
      pool.release();
      throw error;
    }
    notes.tell(
      'transport-fallback',
      'warning',
      `No image service could be reached (${isTidemarkError(failure) ? failure.message : 'see the log'}), so the disks were read by attaching a snapshot of them to a worker VM. Everything was read; only what changed was stored.`,
    );
    // A worker that cannot reach the image service says nothing of the plug-in; an engine that finds none does.
    const away = hasCode(failure, 'TRANSFER_NOT_STARTED') ? failure.message : undefined;
    return await this.#byAttachment(input, pool, away);
  }

  async #plan({ engine, request, scope, selected }: ReadingInput) {
    const { base, vm, forceFull } = request;
    const { signal } = scope;
    const away = <T>(work: () => Promise<T>) => this.patience.whileAway(signal, work);
    const checkpointId = base?.checkpointId ?? '';
    const known =
      checkpointId === '' ? undefined : (await away(() => engine.checkpoints.list(vm.vmId, { signal }))).find((c) => c.id === checkpointId);
    const covered = known && (await away(() => engine.checkpoints.disks(vm.vmId, known.id, { signal })));
    return planDisks({
      disks: selected.map(({ disk }) => ({ id: disk.id, format: disk.format })),
      base,
      forceFull,
      checkpointState: known && (known.state ?? 'created'),
      checkpointDiskIds: covered?.map((disk) => disk.id),
    });
  }

  #placement({ request, picture, selected }: ReadingInput): Placement {
    const { vm } = picture;
    return {
      platformId: request.vm.platformId,
      clusterId: vm.clusterId,
      hostId: vm.hostId,
      storageDomainIds: [...new Set(selected.flatMap(({ disk }) => disk.storageDomainId ?? []))],
    };
  }

  async #attachmentPool(input: ReadingInput): Promise<SlotPool> {
    const { engine, picture, scope } = input;
    const { clusterId } = picture.vm;
    const cluster = await this.patience.whileAway(scope.signal, () => engine.clusters.find(clusterId, { signal: scope.signal }));
    return this.#pool(input, { ...this.#placement(input), needsAttachment: { dataCenterId: cluster?.dataCenterId ?? '' } });
  }

  #pool({ scope, notes }: ReadingInput, placement: Placement): SlotPool {
    return new SlotPool(this.dispatcher, placement, (reason) => scope.waiting(reason), tellLoss(notes));
  }
}

function planBase({ base, forceFull }: BackupRequest) {
  return { base, forceFull };
}

function common({
  request,
  scope,
  notes,
  picture,
}: ReadingInput): Pick<RoundsInput, 'request' | 'scope' | 'notes' | 'running' | 'windows'> {
  return { request, scope, notes, running: picture.vm.status !== 'down', windows: /windows/i.test(picture.vm.operatingSystem) };
}

function storedDisks(selected: VmPicture['attachments']) {
  return new Map(selected.map((attachment) => [attachment.disk.id, storedDiskOf(attachment)]));
}
