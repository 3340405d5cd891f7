import { pause } from '../../common/rpc/call';

/** Time as a port: flows wait for the engine for minutes, tests do not. */
export interface Clock {
  /** Milliseconds since the epoch, UTC. */
  now(): number;
  /** Resolves after the time; rejects with CANCELLED when the signal aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = { now: () => Date.now(), sleep: (delayMs, signal) => pause(delayMs, signal) };
