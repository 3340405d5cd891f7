import { pause } from '../../common/rpc/call';

/** Time as a port: flows wait for the engine for minutes, tests do not. */
export interface Clock {
  /** Milliseconds since the epoch, UTC; of {@link monotonicClock} since some moment. */
  now(): number;
  /** Resolves after the time; rejects with CANCELLED when the signal aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** For waits and nothing else: who sets the clock of the machine neither ends nor prolongs them. */
export const monotonicClock: Clock = { now: () => performance.now(), sleep: (delayMs, signal) => pause(delayMs, signal) };
export const systemClock: Clock = { now: () => Date.now(), sleep: (delayMs, signal) => pause(delayMs, signal) };
