/**
 * Work that has to get done for a key however often it fails: one run at a time, tried again after pauses that grow. What is asked for while it runs
 * is run once more, since the run may have begun before what it was asked for.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Service } from '../../common/lifecycle/lifecycle';
import { pause } from '../../common/rpc/call';

export interface RetriedWorkOptions {
  readonly name: string;
  /** Rejects when it is to be tried again. Must be idempotent. */
  readonly work: (key: string) => Promise<void>;
  /** Told of each kind of failure once, until the work succeeds or fails differently. */
  readonly failed: (key: string, error: TidemarkError) => void;
  readonly firstPauseMs?: number;
  readonly longestPauseMs?: number;
}

interface Wanted {
  again: boolean;
  sooner: AbortController;
}

export class RetriedWork implements Service {
  readonly name: string;
  readonly #wanted = new Map<string, Wanted>();
  #stop = new AbortController();

  constructor(private readonly options: RetriedWorkOptions) {
    this.name = options.name;
  }

  /** Does it now, or once more after the run under way; one that waits for its next try waits no longer. */
  want(key: string): void {
    if (this.#stop.signal.aborted) return;
    const known = this.#wanted.get(key);
    if (!known) return void this.#run(key);
    known.again = true;
    known.sooner.abort();
  }

  async start(): Promise<void> {
    this.#stop = new AbortController();
  }

  /** Tries nothing any more; a run under way ends by itself, and nobody is told how. */
  async stop(): Promise<void> {
    this.#stop.abort();
  }

  async #run(key: string): Promise<void> {
    const { signal } = this.#stop;
    const { work, failed, firstPauseMs = 500, longestPauseMs = 60_000 } = this.options;
    const wanted: Wanted = { again: true, sooner: new AbortController() };
    this.#wanted.set(key, wanted);
    let pauseMs = firstPauseMs;
    let told: string | undefined;
    while (!signal.aborted && wanted.again) {
      wanted.again = false;
      wanted.sooner = new AbortController();
      try {
        await work(key);
        [pauseMs, told] = [firstPauseMs, undefined];
      } catch (thrown) {
        if (signal.aborted) break;
        const error = toTidemarkError(thrown, this.name);
        if (error.code !== told) failed(key, error);
        told = error.code;
        await pause(pauseMs, AbortSignal.any([signal, wanted.sooner.signal])).catch(() => undefined);
        pauseMs = wanted.again ? firstPauseMs : Math.min(pauseMs * 2, longestPauseMs);
        wanted.again = true;
      }
    }
    if (this.#wanted.get(key) === wanted) this.#wanted.delete(key);
  }
}

/** Waits for all of them, then throws the first failure: one that fails does not keep the others from being done. */
export async function allOf(works: Iterable<Promise<unknown>>): Promise<void> {
  for (const end of await Promise.allSettled(works)) if (end.status === 'rejected') throw end.reason;
}
