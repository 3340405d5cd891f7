import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Clock } from '../operations/clock';
import { notSent } from './definite';

/** The engine restarts in minutes; worker streams go on meanwhile. */
const defaultAwayMs = 10 * 60_000;
const awayCodes = ['ENGINE_UNAVAILABLE', 'ENGINE_ANSWER_INVALID', 'ENGINE_INTERNAL_FAILURE'];

export interface ConflictOptions {
  readonly signal?: AbortSignal | undefined;
  readonly deadlineMs: number;
  /** Hears why it waits; an empty text once it goes on. */
  waiting?(detail: string): void;
}

/** How long a create may go on after a cancel: its answer says what has to be removed, and usually comes at once. */
const lingerMs = 8_000;

/** Waiting for an engine that is away, holds a lock or takes its time. Nothing here waits without an end. */
export class Patience {
  constructor(readonly clock: Clock) {}

  /**
   * Repeats work that may be repeated while the engine is away, for `awayMs`; then throws what it threw last.
   * The engine client repeats reads for some seconds by itself; this is for restarts.
   */
  async whileAway<T>(signal: AbortSignal | undefined, work: () => Promise<T>, awayMs = defaultAwayMs): Promise<T> {
    const until = this.clock.elapsed() + awayMs;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!hasCode(error, ...awayCodes) || this.clock.elapsed() >= until || signal?.aborted === true) throw error;
        await this.clock.sleep(3000, signal);
      }
    }
  }

  /** As {@link whileAway}, and waits out conflicts until the deadline. */
  async whileConflict<T>(options: ConflictOptions, work: () => Promise<T>): Promise<T> {
    const until = this.clock.elapsed() + options.deadlineMs;
    let waited = false;
    for (let attempt = 0; ; attempt += 1) {
      try {
        const result = await this.whileAway(options.signal, work);
        if (waited) options.waiting?.('');
        return result;
      } catch (error) {
        if (!hasCode(error, 'ENGINE_CONFLICT') || this.clock.elapsed() >= until) throw error;
        waited = true;
        options.waiting?.(String(error.meta['detail'] ?? ''));
        await this.clock.sleep(Math.min(1000 * 2 ** attempt, 10_000), options.signal);
      }
    }
  }

  /**
   * Runs a create, which a cancel does not cut off at once: without its answer nobody knows what was made, and the clean-up would have to
   * wait for it to turn up. Not begun when already cancelled.
   */
  async create<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (signal.aborted) throw CommonErrors.CANCELLED({ what: notSent });
    const late = new AbortController();
    const done = new AbortController();
    const linger = () => {
      void this.clock.sleep(lingerMs, done.signal).then(
        () => late.abort(signal.reason),
        () => undefined,
      );
    };
    signal.addEventListener('abort', linger, { once: true });
    try {
      return await work(late.signal);
    } finally {
      signal.removeEventListener('abort', linger);
      done.abort();
    }
  }

  /**
   * Asks until the answer is not undefined; undefined when the deadline passes first. `everyMs` gets the time waited so far. An engine that
   * is away counts as no answer yet.
   */
  async poll<T>(
    options: { signal?: AbortSignal | undefined; deadlineMs: number; everyMs: (waitedMs: number) => number },
    probe: () => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const since = this.clock.elapsed();
    for (;;) {
      let failure: unknown;
      try {
        const found = await probe();
        if (found !== undefined) return found;
      } catch (error) {
        if (!hasCode(error, ...awayCodes)) throw error;
        failure = error;
      }
      const waited = this.clock.elapsed() - since;
      if (waited >= options.deadlineMs) {
        if (failure !== undefined) throw failure;
        return undefined;
      }
      await this.clock.sleep(Math.min(options.everyMs(waited), Math.max(1, options.deadlineMs - waited)), options.signal);
    }
  }
}

/** 1 s for half a minute, then 5 s (engine REST API §12.2). */
export const startPace = (waitedMs: number): number => (waitedMs < 30_000 ? 1000 : 5000);
/** 1 s, then 2 s. */
export const transferPace = (waitedMs: number): number => (waitedMs < 10_000 ? 1000 : 2000);
/** 1 s, then 2 s, then 10 s: finalize and merges. */
export const endPace = (waitedMs: number): number => (waitedMs < 5000 ? 1000 : waitedMs < 60_000 ? 2000 : 10_000);
