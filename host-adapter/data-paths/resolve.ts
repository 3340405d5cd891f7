/**
 * Which mover carries a session: the repository's own one where it can, else a gateway; by reachability from the worker's network, then load, then
 * affinity: what the administrator prefers, then where the VM was last. Pure: everything that is known is given, and the answer says why, for the one chosen and for those passed over.
 */

/** What is known of a mover when a session is about to be opened. */
export interface Candidate {
  readonly moverId: string;
  /** Its host name. */
  readonly name: string;
  /** The mover on the repository's own machine, or one that carries data to it. */
  readonly role: 'own' | 'gateway';
  /** It keeps its lease. */
  readonly connected: boolean;
  /** Takes no new sessions. */
  readonly draining: boolean;
  /** What self-tests of the workers that would be used found; unknown: none of them has tried. */
  readonly reach: 'reached' | 'unreached' | 'unknown';
  /** It failed this session just now. */
  readonly failed: boolean;
  readonly openSessions: number;
  /** It carried the VM's last session to this repository, so that its index is warm. */
  readonly usedLast: boolean;
  /** The administrator prefers it, for workers of this cluster or (null) for all; rank 0 most. */
  readonly preference?: { readonly rank: number; readonly clusterName: string | null } | undefined;
}

/** Why a mover was chosen. Codes are told to users; docs/operations/gateways.md lists them. */
export type ChoiceReason =
  'repository-mover' | 'gateway-only' | 'gateway-reach' | 'gateway-load' | 'gateway-preferred' | 'gateway-affinity' | 'gateway-equal';
/** Why it cannot be opened now, although waiting may help. */
export type WaitReason = 'repository-mover-lost' | 'repository-mover-draining' | 'gateway-lost' | 'gateway-draining' | 'gateway-failed';

export interface Passed {
  readonly moverId: string;
  readonly name: string;
  /** What kept it from being chosen, for people. */
  readonly why: string;
}

export type Resolution =
  | {
      readonly kind: 'chosen';
      readonly mover: Candidate;
      readonly reason: ChoiceReason;
      readonly message: string;
      readonly passed: readonly Passed[];
    }
  | { readonly kind: 'wait'; readonly reason: WaitReason; readonly message: string; readonly passed: readonly Passed[] }
  /** No mover at all may serve the repository. */
  | { readonly kind: 'missing' };

export function resolvePath(candidates: readonly Candidate[]): Resolution {
  if (candidates.length === 0) return { kind: 'missing' };
  const usable = candidates.filter((one) => one.connected && !one.draining && !one.failed);
  const unusable = candidates.filter((one) => !usable.includes(one));
  const passed = unusable.map((one) => pass(one, problemOf(one)));
  const own = usable.find((one) => one.role === 'own' && one.reach !== 'unreached');
  const gateways = usable.filter((one) => one.role === 'gateway');
  if (own) {
    return chosen(own, 'repository-mover', `${own.name} is the repository's own mover.`, [
      ...passed,
      ...gateways.map((one) => pass(one, "the repository's own mover comes first")),
    ]);
  }
  const reached = usable.filter((one) => one.reach !== 'unreached');
  // What a self-test found may be outdated: a mover that was not reached is better than none.
  const near = reached.length > 0 ? reached : usable;
  passed.push(...usable.filter((one) => !near.includes(one)).map((one) => pass(one, "the workers' self-tests did not reach it")));
  const [best, ...others] = [...near].sort(byPreference);
  if (!best) return wait(candidates, passed);
  const [next] = others;
  const reason = best.role === 'own' ? 'repository-mover' : reasonFor(best, next, near.length < usable.length);
  return chosen(best, reason, explain(best, reason), [...passed, ...others.map((one) => pass(one, whyNot(one, best)))]);
}

/** Those reached come before those of which nothing is known. */
function byPreference(a: Candidate, b: Candidate): number {
  return (
    Number(b.reach === 'reached') - Number(a.reach === 'reached') ||
    a.openSessions - b.openSessions ||
    rankOf(a) - rankOf(b) ||
    Number(b.usedLast) - Number(a.usedLast) ||
    (a.moverId < b.moverId ? -1 : 1)
  );
}

function rankOf({ preference }: Candidate): number {
  return preference?.rank ?? Number.MAX_SAFE_INTEGER;
}

function reasonFor(best: Candidate, next: Candidate | undefined, othersUnreached: boolean): ChoiceReason {
  if (!next) return othersUnreached ? 'gateway-reach' : 'gateway-only';
  if (next.reach !== best.reach) return 'gateway-reach';
  if (next.openSessions !== best.openSessions) return 'gateway-load';
  if (rankOf(next) !== rankOf(best)) return 'gateway-preferred';
  return next.usedLast !== best.usedLast ? 'gateway-affinity' : 'gateway-equal';
}

function explain({ name, openSessions, preference }: Candidate, reason: ChoiceReason): string {
  switch (reason) {
    case 'repository-mover':
      return `${name} is the repository's own mover.`;
    case 'gateway-only':
      return `${name} is the only gateway that can be used now.`;
    case 'gateway-reach':
      return `Gateway ${name} is reached from the worker's network.`;
    case 'gateway-load':
      return `Gateway ${name} has the fewest sessions (${openSessions}).`;
    case 'gateway-preferred':
      return `Gateway ${name} is preferred${preference?.clusterName == null ? '' : ` for cluster ${preference.clusterName}`}.`;
    case 'gateway-affinity':
      return `Gateway ${name} carried this VM last time.`;
    case 'gateway-equal':
      return `Gateway ${name} is as good as any.`;
  }
}

function problemOf(one: Candidate): string {
  if (!one.connected) return 'it is not connected';
  return one.draining ? 'it is being drained' : 'it failed this session';
}

function whyNot(one: Candidate, best: Candidate): string {
  if (one.reach !== best.reach) return "no worker's self-test reached it yet";
  if (one.openSessions > best.openSessions) return `it has more sessions (${one.openSessions})`;
  return rankOf(one) > rankOf(best) ? 'another one is preferred' : 'another one is as good or better';
}

function pass({ moverId, name }: Candidate, why: string): Passed {
  return { moverId, name, why };
}

function chosen(mover: Candidate, reason: ChoiceReason, message: string, passed: readonly Passed[]): Resolution {
  return { kind: 'chosen', mover, reason, message, passed };
}

function wait(candidates: readonly Candidate[], passed: readonly Passed[]): Resolution {
  const message = `No mover can be used now: ${passed.map(({ name, why }) => `${name}: ${why}`).join('; ')}.`;
  const gateways = candidates.filter(({ role }) => role === 'gateway');
  const asked = gateways.length > 0 ? gateways : candidates;
  const noun = gateways.length > 0 ? 'gateway' : 'repository-mover';
  // The mildest problem is named: it is the first to pass.
  if (asked.some((one) => one.connected && !one.draining)) return { kind: 'wait', reason: 'gateway-failed', message, passed };
  const draining = asked.some((one) => one.connected);
  return { kind: 'wait', reason: draining ? `${noun}-draining` : `${noun}-lost`, message, passed };
}
