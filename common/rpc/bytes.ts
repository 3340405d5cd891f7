import { CommonErrors } from '../errors/common-errors';

/**
 * 64-bit numbers cross the contract as decimal strings; inside they are safe integers (up to 8 PiB). Throws ARGUMENT_INVALID when one is
 * not a whole number from 0 to 2^53 - 1.
 */
export function bytesFromWire(value: string | number, field: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 0) {
    throw CommonErrors.ARGUMENT_INVALID({ field, problem: `${value} is not a whole number of bytes` });
  }
  return number;
}

/** A google.protobuf.Timestamp as the loader gives it. */
export interface WireTimestamp {
  readonly seconds: string | number;
  readonly nanos: number;
}

export function timestampToWire(time: Date): { seconds: string; nanos: number } {
  const ms = time.getTime();
  const seconds = Math.floor(ms / 1000);
  return { seconds: String(seconds), nanos: (ms - seconds * 1000) * 1_000_000 };
}

/** Undefined for an absent timestamp. */
export function timestampFromWire(value: WireTimestamp | null | undefined): Date | undefined {
  return value ? new Date(Number(value.seconds) * 1000 + Math.floor(value.nanos / 1_000_000)) : undefined;
}

/** A google.protobuf.Duration as the loader gives it, in milliseconds. */
export function durationFromWire(value: WireTimestamp | null | undefined): number | undefined {
  return value ? Number(value.seconds) * 1000 + Math.floor(value.nanos / 1_000_000) : undefined;
}

export function durationToWire(ms: number): { seconds: string; nanos: number } {
  return { seconds: String(Math.floor(ms / 1000)), nanos: Math.round((ms % 1000) * 1_000_000) };
}
