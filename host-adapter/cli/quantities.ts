import { usage } from './cli-failure';

const durationUnits = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `90s`, `30m`, `12h` or `7d`, in milliseconds. Throws a usage failure. */
export function durationOf(option: string, value: string): number {
  const [, digits, unit = 's'] = /^(\d{1,9})\s*([smhd])$/i.exec(value) ?? [];
  if (digits === undefined) throw usage(`${option}: "${value}" is not a duration such as 30m, 12h or 7d`);
  return Number(digits) * durationUnits[unit.toLowerCase() as keyof typeof durationUnits];
}
