import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Clock } from './clock';
import type { AwaitingCommitEvent, NoteEvent, OperationEvent, Outcome, Phase, ProgressEvent, ResultEvent, SequencedEvent } from './events';
import { OperationErrors } from './operation-errors';

export interface VmKey {
  readonly platformId: string;
  readonly vmId: string;
}

/** What identifies an operation; survives a restart in the journal. */
export interface OperationHeader {
  readonly operationId: string;
  readonly kind: 'backup' | 'restore' | 'worker';
  readonly sessionId: string;
  /** The VM that must have no other operation meanwhile; absent for restores, which make something new. */
  readonly vm?: VmKey | undefined;
  /** The worker that must have no other operation meanwhile; only for kind `worker`. */
  readonly workerId?: string | undefined;
  /** Empty for a worker beside the server. */
  readonly platformId: string;
  /** Digest of the request, to tell a repetition from a reuse of the id. */
  readonly fingerprint: string;
  readonly startedAt: number;
}

/** Where a flow reports and what it obeys. */
export interface OperationScope {
  readonly header: OperationHeader;
  /** Aborted by a cancel request or when the plug-in stops. */
  readonly signal: AbortSignal;
  phase(phase: Phase, waitingReason?: string): void;
  /** Why it waits within its present phase; empty when it goes on. */
  waiting(reason: string): void;
  progress(event: Omit<ProgressEvent, 'type'>): void;
  note(event: Omit<NoteEvent, 'type'>): void;
  /** Tells that the data is complete and waits for the host's verdict. Throws COMMIT_NOT_CONFIRMED, CANCELLED. */
  awaitCommit(event: Omit<AwaitingCommitEvent, 'type'>, timeoutMs: number): Promise<boolean>;
}

/** Events of an operation restored after a restart come behind all that were ever sent before. */
export const restoredSequenceBase = 2 ** 40;
/** Notes and states beyond this are dropped, oldest first: a flow that flaps must not fill the memory. */
const maxEvents = 1000;

/** One operation: its events, its cancel signal and its waiters. Owned by the registry. */
export class Operation implements OperationScope {
  readonly #aborter = new AbortController();
  #events: SequencedEvent[] = [];
  #lastSequence: number;
  readonly #waiters = new Set<() => void>();
  #conclusion: { resolve(committed: boolean): void } | undefined;
  #concluded: boolean | undefined;
  #phase: Phase = 'preparing';
  #result: ResultEvent | undefined;
  #endedAt: number | undefined;

  constructor(
    readonly header: OperationHeader,
    private readonly clock: Clock,
    firstSequence = 0,
  ) {
    this.#lastSequence = firstSequence;
  }

  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  get currentPhase(): Phase {
    return this.#phase;
  }

  get result(): ResultEvent | undefined {
    return this.#result;
  }

  get outcome(): Outcome | undefined {
    return this.#result?.outcome;
  }

  get endedAt(): number | undefined {
    return this.#endedAt;
  }

  get lastSequence(): number {
    return this.#lastSequence;
  }

  phase(phase: Phase, waitingReason = ''): void {
    const last = this.#events.findLast((e) => e.event.type === 'state')?.event;
    if (last?.type === 'state' && last.phase === phase && last.waitingReason === waitingReason) return;
    this.#phase = phase;
    this.#append({ type: 'state', phase, waitingReason });
  }

  waiting(reason: string): void {
    this.phase(this.#phase, reason);
  }

  progress(event: Omit<ProgressEvent, 'type'>): void {
    // Only the latest of a disk matters, so a resumed watch gets one per disk.
    this.#events = this.#events.filter((e) => e.event.type !== 'progress' || e.event.diskId !== event.diskId);
    this.#append({ type: 'progress', ...event });
  }

  note(event: Omit<NoteEvent, 'type'>): void {
    this.#append({ type: 'note', ...event });
  }

  async awaitCommit(event: Omit<AwaitingCommitEvent, 'type'>, timeoutMs: number): Promise<boolean> {
    const verdict = new Promise<boolean>((resolve) => {
      this.#conclusion = { resolve };
    });
    this.#append({ type: 'awaiting-commit', ...event });
    const timer = new AbortController();
    try {
      return await Promise.race([
        verdict,
        this.clock.sleep(timeoutMs, AbortSignal.any([this.signal, timer.signal])).then(() => {
          throw OperationErrors.COMMIT_NOT_CONFIRMED({ operationId: this.header.operationId, waitedMs: timeoutMs });
        }),
      ]);
    } finally {
      this.#conclusion = undefined;
      timer.abort();
      // The payload holds the VM's configuration and is of no use once the host has answered.
      this.#events = this.#events.filter((e) => e.event.type !== 'awaiting-commit');
    }
  }

  /** The host's verdict. Idempotent. Throws OPERATION_NOT_AWAITING_COMMIT, OPERATION_NOT_FOUND. */
  conclude(committed: boolean): void {
    if (this.#concluded !== undefined) return;
    if (this.#conclusion) {
      this.#concluded = committed;
      this.#conclusion.resolve(committed);
    } else if (this.#result) {
      throw CommonErrors.OPERATION_NOT_FOUND({ operationId: this.header.operationId });
    } else if (committed) {
      throw OperationErrors.OPERATION_NOT_AWAITING_COMMIT({ operationId: this.header.operationId });
    } else {
      this.cancel();
    }
  }

  /** Asks the flow to stop. Idempotent, without effect once ended, and once the host has committed the point. */
  cancel(reason: TidemarkError = CommonErrors.CANCELLED({ what: `operation ${this.header.operationId}` })): void {
    if (this.#concluded === true) return;
    this.#aborter.abort(reason);
  }

  end(result: Omit<ResultEvent, 'type'>, endedAt = this.clock.now()): void {
    if (this.#result) return;
    this.#result = { type: 'result', ...result };
    this.#endedAt = endedAt;
    this.#append(this.#result);
  }

  /**
   * Events after a sequence, then as they come, until after the result; `undefined` each `keepAliveMs` of silence.
   * Ends early when the signal aborts.
   */
  async *watch(afterSequence: number, keepAliveMs: number, signal: AbortSignal): AsyncGenerator<SequencedEvent | undefined> {
    let after = afterSequence;
    while (!signal.aborted) {
      const next = this.#events.find((e) => e.sequence > after);
      if (next) {
        after = next.sequence;
        yield next;
        if (next.event.type === 'result') return;
      } else if (this.#result) {
        return;
      } else if (!(await this.#changed(keepAliveMs, signal))) {
        yield undefined;
      }
    }
  }

  #append(event: OperationEvent): void {
    this.#lastSequence += 1;
    this.#events.push({ sequence: this.#lastSequence, at: this.clock.now(), event });
    if (this.#events.length > maxEvents) {
      const oldest = this.#events.findIndex((e) => e.event.type === 'note' || e.event.type === 'state');
      if (oldest >= 0) this.#events.splice(oldest, 1);
    }
    for (const wake of [...this.#waiters]) wake();
  }

  /** True when something was appended, false after the time or the abort. */
  #changed(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const done = (changed: boolean) => {
        clearTimeout(timer);
        this.#waiters.delete(wake);
        signal.removeEventListener('abort', stop);
        resolve(changed);
      };
      const wake = () => done(true);
      const stop = () => done(false);
      const timer = setTimeout(stop, timeoutMs);
      this.#waiters.add(wake);
      signal.addEventListener('abort', stop, { once: true });
    });
  }
}
