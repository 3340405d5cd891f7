import { randomInt } from 'node:crypto';
import { toTidemarkError } from '../../common/errors/common-errors';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { redactText } from '../../common/log/redact';
import { pause } from '../../common/rpc/call';
import type { SessionStore } from '../catalogue/session-store';
import type { SettingStore } from '../catalogue/setting-store';
import { untilStored } from '../catalogue/store-patience';
import { HostErrors } from '../errors/host-errors';
import type { SessionRecord } from './session-record';
import { checkTransition } from './task-machine';
import type { TaskState } from './task-machine';
import type { StoredFailure, TaskDisk, TaskNote, TaskRecord } from './task-record';
import { zeroCounters } from './task-record';

/** Progress is written this often at most; everything else at once. */
const progressEveryMs = 500;
const maxNotes = 500;

/** One task at work: its record, how it is changed and kept, and the two ways it is told to stop. */
export class TaskContext {
  /** Either signal. */
  readonly stop: AbortSignal;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    readonly task: TaskRecord,
    readonly session: SessionRecord,
    /** The administrator wants it to end. */
    readonly cancel: AbortSignal,
    /** The server stops: leave everything as it is, it will be adopted. */
    readonly shutdown: AbortSignal,
    private readonly store: SessionStore,
    readonly settings: SettingStore,
    readonly now: () => Date,
    private readonly logger: Logger,
  ) {
    this.stop = AbortSignal.any([cancel, shutdown]);
  }

  /** Milliseconds since some moment, for waits and time-outs: whoever sets the machine's clock does not move it. */
  elapsedMs(): number {
    return performance.now();
  }

  async save(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.stored(() => this.store.saveTask(this.task));
  }

  /** Does something in the catalogue, which may have to be waited for. Rejects only for what is no failure of its storage, or when the server stops. */
  stored<T>(work: () => Promise<T>): Promise<T> {
    return untilStored(work, { signal: this.shutdown, logger: this.logger });
  }

  /** Something changed that may be written a little later. */
  touch(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      if (!this.shutdown.aborted) void this.store.saveTask(this.task).catch(() => undefined);
    }, progressEveryMs);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  /** Enters a state, or stays in it; whatever it waited for is over. Throws STATE_TRANSITION_INVALID. */
  async enter(state: TaskState, waitingReason: string | null = null): Promise<void> {
    const { task } = this;
    if (task.state === state && task.waitingReason === waitingReason) return;
    checkTransition(task.state, state);
    task.state = state;
    task.waitingReason = waitingReason;
    if (state !== 'queued') task.startedAt ??= this.now().toISOString();
    await this.save();
  }

  async waiting(reason: string | null): Promise<void> {
    if (this.task.waitingReason === reason) return;
    this.task.waitingReason = reason;
    await this.save();
  }

  /** Adds a note once per code and disk; the proxy's note also marks the disks' path. */
  note(note: Omit<TaskNote, 'at'>): void {
    const { task } = this;
    if (note.code === 'net-path-proxy') {
      for (const disk of task.disks) if (note.diskId === '' || disk.diskId === note.diskId) disk.path = 'proxy';
    }
    if (task.notes.length >= maxNotes || task.notes.some((old) => old.code === note.code && old.diskId === note.diskId)) return;
    task.notes.push({ at: this.now().toISOString(), ...note, message: redactText(note.message) });
  }

  disk(diskId: string, name: string): TaskDisk {
    const known = this.task.disks.find((disk) => disk.diskId === diskId);
    if (known) return known;
    const proxied = this.task.notes.some((note) => note.code === 'net-path-proxy' && (note.diskId === '' || note.diskId === diskId));
    const made: TaskDisk = {
      diskId,
      name,
      sizeBytes: 0,
      mode: 'unknown',
      reason: '',
      path: proxied ? 'proxy' : 'direct',
      transport: null,
      workerId: null,
      workerName: null,
      workerHop: null,
      counters: zeroCounters,
      startedAt: null,
      endedAt: null,
    };
    this.task.disks.push(made);
    return made;
  }

  /**
   * Does something that may have to wait for the outside world: an error that `reasonOf` names is waited out, with that reason shown, for as
   * long as the settings allow; any other is thrown. Throws WAITED_TOO_LONG, CANCELLED.
   */
  async patiently<T>(work: () => Promise<T>, reasonOf: (error: TidemarkError) => string | undefined, everyMs = 1000): Promise<T> {
    const began = this.elapsedMs();
    for (;;) {
      try {
        const result = await work();
        await this.waiting(null);
        return result;
      } catch (thrown) {
        if (this.stop.aborted) throw thrown;
        const error = toTidemarkError(thrown, 'a task');
        const reason = reasonOf(error);
        if (reason === undefined) throw thrown;
        const waitedMs = Math.round(this.elapsedMs() - began);
        if (waitedMs > this.settings.current.waitLimitMs) throw HostErrors.WAITED_TOO_LONG({ reason, waitedMs }, { cause: error });
        await this.waiting(reason);
        await pause(Math.max(error.retryDelayMs ?? 0, everyMs) + randomInt(100), this.stop);
      }
    }
  }
}

export function storedFailure(error: TidemarkError): StoredFailure {
  return {
    code: error.code,
    message: redactText(error.message),
    retry: error.retry,
    ...(error.correlationId === undefined ? {} : { correlationId: error.correlationId }),
  };
}

/** Waiting reason of a plug-in that cannot be called now; undefined for errors that waiting does not help. */
export function pluginReason(error: TidemarkError): string | undefined {
  if (error.code === 'PLUGIN_DISABLED') return 'plugin-disabled';
  return isTransient(error) ? 'plugin-lost' : undefined;
}

/** The other side is away or overloaded; asking again is safe and may help. */
export function isTransient(error: unknown): boolean {
  return isTidemarkError(error) && (error.status === 'UNAVAILABLE' || error.status === 'DEADLINE_EXCEEDED' || error.status === 'CANCELLED');
}
