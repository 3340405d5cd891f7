/** When the server does something for a repository by itself. Pure. */
import type { Care, CareKind, RepositoryCare } from '../catalogue/care-store';
import type { Settings } from '../catalogue/setting-store';
import { nextRun } from '../jobs/schedule';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

type When = Pick<Settings, 'configurationCopySchedule' | 'collectSchedule' | 'verifyPeriodDays'>;

/**
 * What is due now. A copy of the configuration is made as soon as there is a repository, every night, and again an hour after one failed. `begin` names what
 * has no time to count from yet: a new repository has nothing to collect and nothing to verify.
 */
export function dueNow(care: RepositoryCare, settings: When, now: Date): { readonly due: CareKind[]; readonly begin: CareKind[] } {
  const due: CareKind[] = [];
  const begin: CareKind[] = [];
  const { copy, collect, verify } = { copy: past(care.copy, now), collect: past(care.collect, now), verify: past(care.verify, now) };
  if (copy.triedAt === null || isPast(settings.configurationCopySchedule, copy.triedAt, now) || failedBefore(copy, hourMs, now))
    due.push('copy');
  if (collect.triedAt === null) begin.push('collect');
  else if (isPast(settings.collectSchedule, collect.triedAt, now)) due.push('collect');
  if (settings.verifyPeriodDays > 0) {
    if (verify.triedAt === null) begin.push('verify');
    else if (isVerifyDue(verify, verify.triedAt, settings.verifyPeriodDays * dayMs, now)) due.push('verify');
  }
  return { due, begin };
}

/** Without times that are yet to come: they were noted while the machine's clock was wrong, and nothing would be due before it is there again. */
function past({ doneAt, triedAt, failure }: Care, now: Date): Care {
  const limit = new Date(now.getTime() + hourMs).toISOString();
  const known = (at: string | null) => (at !== null && at <= limit ? at : null);
  return { doneAt: known(doneAt), triedAt: known(triedAt), failure };
}

/** A period after the last that came to its end; one that did not is tried again the next day. */
function isVerifyDue({ doneAt, failure }: Care, triedAt: string, periodMs: number, now: Date): boolean {
  const since = (at: string) => now.getTime() - Date.parse(at);
  if (since(triedAt) < dayMs) return false;
  return since(doneAt ?? triedAt) >= periodMs || (doneAt === null && failure !== null);
}

function failedBefore({ failure, triedAt }: Care, ms: number, now: Date): boolean {
  return failure !== null && triedAt !== null && now.getTime() - Date.parse(triedAt) >= ms;
}

function isPast(cron: string, last: string, now: Date): boolean {
  const next = nextRun({ cron }, new Date(last));
  return next !== undefined && next <= now;
}
