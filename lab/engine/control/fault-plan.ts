import { randomUUID } from 'node:crypto';

/**
 * Injected misbehaviour, as data: which request or internal step, the how-many-th, and what happens.
 * Rules live in memory: a restarted lab behaves well again; a restart of the engine alone keeps them.
 */
export interface FaultRule {
  readonly id: string;
  readonly match: {
    /** `POST /vms/:vmId/backups` as registered, or with `*` for anything: `* /imagetransfers*`. Also `sso`. */
    readonly route?: string;
    /** Name of an internal step (`Core.step`), e.g. `snapshot.merge`. */
    readonly step?: string;
    /** Only when the path (routes) or subject (steps) contains this text: an id. */
    readonly contains?: string;
    /** Skip this many matches first: `2` acts on the second match. Default 1. */
    readonly nth?: number;
    /** How many times in a row, default 1; 0 means until removed. */
    readonly times?: number;
  };
  readonly effect: FaultEffect;
}

export type FaultEffect =
  | {
      readonly kind: 'fault';
      readonly status: number;
      readonly detail?: string;
      readonly reason?: string;
      readonly name?: string;
      readonly shape?: 'fault' | 'action' | 'empty';
    }
  | { readonly kind: 'delay'; readonly ms: number }
  /** `before`: nothing was done. `after`: it was done, the client never hears of it. */
  | { readonly kind: 'drop'; readonly when?: 'before' | 'after' }
  | { readonly kind: 'html503' }
  | { readonly kind: 'unauthorized' };

interface ActiveRule extends FaultRule {
  matches: number;
  fired: number;
}

export class FaultPlan {
  private readonly rules: ActiveRule[] = [];

  add(rule: Omit<FaultRule, 'id'>): FaultRule {
    const active = { id: randomUUID(), match: rule.match, effect: rule.effect, matches: 0, fired: 0 };
    this.rules.push(active);
    return active;
  }

  remove(id: string): boolean {
    const index = this.rules.findIndex((rule) => rule.id === id);
    return index >= 0 && this.rules.splice(index, 1).length > 0;
  }

  clear(): void {
    this.rules.length = 0;
  }

  list(): readonly FaultRule[] {
    return this.rules;
  }

  /** Effects due for one request; counts it. */
  forRequest(route: string, path: string): FaultEffect[] {
    return this.due((match) => match.route !== undefined && like(route, match.route) && path.includes(match.contains ?? ''));
  }

  forStep(step: string, subject: string): FaultEffect[] {
    return this.due((match) => match.step !== undefined && like(step, match.step) && subject.includes(match.contains ?? ''));
  }

  private due(applies: (match: FaultRule['match']) => boolean): FaultEffect[] {
    const effects: FaultEffect[] = [];
    for (const rule of this.rules) {
      if (applies(rule.match)) {
        rule.matches += 1;
        const times = rule.match.times ?? 1;
        if (rule.matches >= (rule.match.nth ?? 1) && (times === 0 || rule.fired < times)) {
          rule.fired += 1;
          effects.push(rule.effect);
        }
      }
    }
    return effects;
  }
}

function like(text: string, pattern: string): boolean {
  const expression = pattern
    .split('*')
    .map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'))
    .join('.*');
  return new RegExp(`^${expression}$`).test(text);
}
