import { resolvePath } from './resolve';
import type { Candidate } from './resolve';

const gateway = (name: string, more: Partial<Candidate> = {}): Candidate => ({
  moverId: name,
  name,
  role: 'gateway',
  connected: true,
  draining: false,
  reach: 'unknown',
  failed: false,
  openSessions: 0,
  usedLast: false,
  ...more,
});
const own = (more: Partial<Candidate> = {}) => gateway('own', { role: 'own', ...more });

const choice = (...candidates: Candidate[]) => {
  const found = resolvePath(candidates);
  return found.kind === 'chosen' ? [found.mover.name, found.reason] : found.kind === 'wait' ? ['waits', found.reason] : ['missing'];
};

describe('the mover of a session', () => {
  it.each<[string, Candidate[], string[]]>([
    ['nobody may serve the repository', [], ['missing']],
    ["the repository's own mover", [own(), gateway('a', { reach: 'reached' })], ['own', 'repository-mover']],
    ['… also when workers do not reach it, and there is nobody else', [own({ reach: 'unreached' })], ['own', 'repository-mover']],
    ['… but not when a gateway is reached', [own({ reach: 'unreached' }), gateway('a', { reach: 'reached' })], ['a', 'gateway-reach']],
    ['its own one is gone', [own({ connected: false })], ['waits', 'repository-mover-lost']],
    ['its own one is drained', [own({ draining: true })], ['waits', 'repository-mover-draining']],
    ['its own one is gone, and there is a gateway', [own({ connected: false }), gateway('a')], ['a', 'gateway-only']],
    ['a single gateway', [gateway('a')], ['a', 'gateway-only']],
    ['reachability before load', [gateway('a', { reach: 'reached', openSessions: 9 }), gateway('b')], ['a', 'gateway-reach']],
    ['what is not reached comes last', [gateway('a', { reach: 'unreached' }), gateway('b', { openSessions: 5 })], ['b', 'gateway-reach']],
    ['unreached is better than nobody', [gateway('a', { reach: 'unreached' })], ['a', 'gateway-only']],
    ['load before affinity', [gateway('a', { openSessions: 1, usedLast: true }), gateway('b')], ['b', 'gateway-load']],
    ['affinity among equals', [gateway('a'), gateway('b', { usedLast: true })], ['b', 'gateway-affinity']],
    [
      'load before what is preferred',
      [gateway('a', { openSessions: 1, preference: { rank: 0, clusterName: null } }), gateway('b')],
      ['b', 'gateway-load'],
    ],
    [
      'what is preferred before where the VM was last',
      [gateway('a', { usedLast: true }), gateway('b', { preference: { rank: 0, clusterName: null } })],
      ['b', 'gateway-preferred'],
    ],
    [
      'the one preferred most',
      [gateway('a', { preference: { rank: 1, clusterName: null } }), gateway('b', { preference: { rank: 0, clusterName: 'east' } })],
      ['b', 'gateway-preferred'],
    ],
    ['the same one of equals each time', [gateway('b'), gateway('a')], ['a', 'gateway-equal']],
    ['not one that is drained', [gateway('a', { draining: true }), gateway('b', { openSessions: 3 })], ['b', 'gateway-only']],
    ['not one that just failed', [gateway('a', { failed: true }), gateway('b')], ['b', 'gateway-only']],
    ['all gone', [gateway('a', { connected: false }), gateway('b', { connected: false })], ['waits', 'gateway-lost']],
    ['one gone, one drained', [gateway('a', { connected: false }), gateway('b', { draining: true })], ['waits', 'gateway-draining']],
    ['all failed', [gateway('a', { failed: true }), gateway('b', { connected: false })], ['waits', 'gateway-failed']],
  ])('%s', (_title, candidates, expected) => {
    expect(choice(...candidates)).toEqual(expected);
    expect(choice(...[...candidates].reverse())).toEqual(expected);
  });

  it('tells why each of the others was passed over', () => {
    const found = resolvePath([
      gateway('a', { reach: 'reached', openSessions: 1 }),
      gateway('b', { reach: 'reached', openSessions: 4 }),
      gateway('c', { connected: false }),
      gateway('d', { draining: true }),
      gateway('e', { reach: 'unreached' }),
      gateway('f'),
      gateway('g', { reach: 'reached', openSessions: 1, preference: { rank: 0, clusterName: 'Level46' } }),
    ]);
    expect(found).toMatchObject({
      kind: 'chosen',
      mover: { name: 'g' },
      reason: 'gateway-preferred',
      message: 'Gateway g is preferred for cluster Level46.',
    });
    const why = found.kind === 'missing' ? [] : found.passed.map((one) => [one.name, one.why]);
    expect(Object.fromEntries(why)).toEqual({
      a: 'another one is preferred',
      b: 'it has more sessions (4)',
      c: 'it is not connected',
      d: 'it is being drained',
      e: "the workers' self-tests did not reach it",
      f: "no worker's self-test reached it yet",
    });
    const waits = resolvePath([gateway('a', { connected: false })]);
    expect(waits).toMatchObject({ kind: 'wait', message: expect.stringContaining('a: it is not connected') as string });
  });
});
