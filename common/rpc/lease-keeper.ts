/**
 * The line of a plug-in or mover to its host: registers, keeps the lease with heartbeats, and starts over when it is lost. The host may come
 * and go; nothing else in the process waits for it.
 */
import { toTidemarkError } from '../errors/common-errors';
import type { TidemarkError } from '../errors/tidemark-error';
import { hasCode } from '../errors/tidemark-error';
import type { Logger } from '../log/logger';
import { pause } from './call';

/** What a lease is good for; the calls are the process's own. */
export interface LeaseHolder {
  /** Registers; resolves with the lease's length, undefined for the default. */
  register(signal: AbortSignal): Promise<number | undefined>;
  /** One heartbeat; resolves with the lease's length, undefined when it is as before. */
  beat(signal: AbortSignal): Promise<number | undefined>;
  /** Runs as long as the lease holds, and ends when its signal aborts. */
  whileHeld?(signal: AbortSignal): Promise<void>;
  /** Why the host, which cannot be reached, may never be: a certificate that one side refuses. */
  diagnose?(): Promise<TidemarkError | undefined>;
}

export type LeaseState = 'connecting' | 'registered' | 'refused';

const defaultLeaseMs = 30_000;
const longestRetryMs = 10_000;
/** Refusals that only an operator can mend are asked about this often. */
const refusedRetryMs = 60_000;

export class LeaseKeeper {
  #state: LeaseState = 'connecting';
  #sooner = new AbortController();

  constructor(
    private readonly endpoint: string,
    private readonly holder: LeaseHolder,
    private readonly logger: Logger,
  ) {}

  get state(): LeaseState {
    return this.#state;
  }

  /** The next heartbeat now: there is something to report. */
  beatNow(): void {
    this.#sooner.abort();
  }

  /** Until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        const leaseMs = (await this.holder.register(signal)) ?? defaultLeaseMs;
        this.#state = 'registered';
        this.logger.info('registered with the server', { endpoint: this.endpoint });
        failures = 0;
        await this.#hold(leaseMs, signal);
      } catch (thrown) {
        if (signal.aborted) return;
        failures += 1;
        const waitMs = await this.#failed(toTidemarkError(thrown, 'talking to the server'), failures);
        await pause(waitMs, signal).catch(() => undefined);
      }
    }
  }

  async #hold(leaseMs: number, signal: AbortSignal): Promise<void> {
    const lost = new AbortController();
    const both = AbortSignal.any([signal, lost.signal]);
    const work = this.holder.whileHeld?.(both);
    try {
      await this.#beat(leaseMs, both);
    } finally {
      lost.abort();
      await work;
    }
  }

  /** Heartbeats at a third of the lease. Rejects when the lease is lost, or when no heartbeat got through for its length. */
  async #beat(firstLeaseMs: number, signal: AbortSignal): Promise<void> {
    let leaseMs = firstLeaseMs;
    let until = performance.now() + leaseMs;
    while (!signal.aborted) {
      this.#sooner = new AbortController();
      await pause(Math.max(leaseMs / 3, 100), AbortSignal.any([signal, this.#sooner.signal])).catch(() => signal.throwIfAborted());
      try {
        leaseMs = (await this.holder.beat(signal)) ?? leaseMs;
        until = performance.now() + leaseMs;
      } catch (error) {
        if (!hasCode(error, 'PEER_UNAVAILABLE', 'DEADLINE_EXCEEDED') || performance.now() >= until) throw error;
        // One lost heartbeat is why the lease is three times as long.
        this.logger.debug('a heartbeat did not get through', { code: error.code });
      }
    }
  }

  /** Notes a failure and returns how long to wait. */
  async #failed(failure: TidemarkError, failures: number): Promise<number> {
    const unreachable = failure.code === 'PEER_UNAVAILABLE' && (failures === 1 || failures % 10 === 0);
    const error = (unreachable ? await this.holder.diagnose?.() : undefined) ?? failure;
    const { code } = error;
    const fields = { endpoint: this.endpoint, code, message: error.message };
    const before = this.#state;
    this.#state = 'connecting';
    if (code === 'LEASE_LOST') {
      this.logger.info('the server does not know our lease any more; registering again', fields);
      return failures > 3 ? longestRetryMs : 0;
    }
    const retryMs = Math.min(250 * 2 ** Math.min(failures, 8), longestRetryMs);
    if (hasCode(error, 'CAPABILITY_MISSING', 'PLUGIN_INSTANCE_TAKEN', 'IDENTITY_REVOKED', 'ROLE_NOT_ALLOWED', 'CERTIFICATE_NOT_ACCEPTED')) {
      if (before !== 'refused') this.logger.error('the server refuses this process', fields);
      this.#state = 'refused';
      // A server that is just going down looks like one that refuses our certificate.
      return code === 'CERTIFICATE_NOT_ACCEPTED' ? retryMs : refusedRetryMs;
    }
    if (before === 'refused' && code === 'PEER_UNAVAILABLE') this.#state = 'refused';
    else if (before === 'registered' || failures === 1) this.logger.warn('the server cannot be reached; trying again', fields);
    return retryMs;
  }
}
