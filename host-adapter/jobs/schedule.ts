import { Cron } from 'croner';
import { HostErrors } from '../errors/host-errors';

export interface Schedule {
  readonly cron: string;
  /** IANA name; the server's own when absent. */
  readonly timeZone?: string | undefined;
}

/** A run that was missed, since the server was down, is made up for when it is not later than this. */
export const longestDelayMs = 12 * 3_600_000;

/** Throws SCHEDULE_INVALID. */
export function checkSchedule(schedule: Schedule): void {
  nextRun(schedule, new Date());
}

/** The first run after a time; undefined when there is none any more. Throws SCHEDULE_INVALID. */
export function nextRun(schedule: Schedule, after: Date): Date | undefined {
  try {
    const options = schedule.timeZone === undefined ? {} : { timezone: schedule.timeZone };
    return new Cron(schedule.cron, { ...options, paused: true }).nextRun(after) ?? undefined;
  } catch (cause) {
    const problem = (cause instanceof Error ? cause.message : 'unknown').replace(/\.+$/, '');
    throw HostErrors.SCHEDULE_INVALID({ field: 'schedule', cron: schedule.cron, problem }, { cause });
  }
}

/**
 * What a schedule asks for now, given its last start: `run` when a run is due and not too late, `missed` when it is too late (the count
 * starts anew), else nothing. Several runs that were missed are made up for by one.
 */
export function dueNow(schedule: Schedule, lastStart: Date, now: Date): 'run' | 'missed' | undefined {
  const first = nextRun(schedule, lastStart);
  if (!first || first > now) return undefined;
  if (now.getTime() - first.getTime() <= longestDelayMs) return 'run';
  const recent = nextRun(schedule, new Date(now.getTime() - longestDelayMs));
  return recent && recent <= now ? 'run' : 'missed';
}
