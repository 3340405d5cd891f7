import { defaultPlacementPolicy as rules } from '../testing/beside-server-only';
import type { TaskTaker } from './connected-fleet';
import { choose, hopTo, hopsOf } from './hops';
import type { Candidate, Hop, Outlook } from './hops';
import type { Expectation, WorkerVm } from './ports';
import type { Placement } from './tasks';

const placement: Placement = { platformId: 'p1', clusterId: 'c1' };
const none: Expectation = { kind: 'none', code: 'CLUSTER_FULL', message: 'no host has room' };
const coming: Expectation = { kind: 'coming', reason: 'worker-deploying' };

function outlook(expectation: Expectation, more: Partial<Outlook> = {}): Outlook {
  return { expectation: () => expectation, busyForLong: false, comingForLong: false, ...more };
}

function worker(workerId: string, hop: Hop, freeSlots = 1, more: Partial<Candidate> = {}): Candidate {
  return { workerId, vmId: undefined, hop, usedSlots: 0, freeSlots, stuck: false, ...more };
}

function taker(platformId: string, clusterId: string, capabilities: readonly string[] = []): TaskTaker {
  const can = (capability: string) => capabilities.includes(capability);
  return { workerId: 'w', platformId, clusterId, usedSlots: 0, freeSlots: 1, stuck: false, can };
}

describe('hops', () => {
  it.each<[Placement, Hop[]]>([
    [placement, ['same-cluster', 'other-cluster', 'beside-server']],
    [{ platformId: 'p1', clusterId: '' }, ['other-cluster', 'beside-server']],
    [{ platformId: '', clusterId: '' }, ['beside-server']],
    [{ ...placement, needsAttachment: { dataCenterId: 'dc1' } }, ['same-cluster', 'other-cluster']],
  ])('of %j are %j', (task, hops) => {
    expect(hopsOf(task)).toEqual(hops);
  });

  const vm = (clusterId: string, dataCenterId?: string): WorkerVm => ({ platformId: 'p1', vmId: 'vm1', clusterId, dataCenterId });
  const attached: Placement = { ...placement, needsAttachment: { dataCenterId: 'dc1' } };
  const able = ['disk-attachment'];

  it.each<[string, Placement, TaskTaker, WorkerVm | undefined, Hop | undefined]>([
    ['the same cluster', placement, taker('p1', 'c1'), undefined, 'same-cluster'],
    ['another cluster', placement, taker('p1', 'c2'), undefined, 'other-cluster'],
    ['another engine', placement, taker('p2', 'c1'), undefined, undefined],
    ['beside the server', placement, taker('', ''), undefined, 'beside-server'],
    ['a VM that says otherwise', placement, taker('', ''), vm('c2'), 'other-cluster'],
    ['a file, beside the server', { platformId: '', clusterId: '' }, taker('', ''), undefined, 'beside-server'],
    ['a file, in a cluster', { platformId: '', clusterId: '' }, taker('p1', 'c1'), undefined, undefined],
    ['attachment in the same cluster', attached, taker('p1', 'c1', able), vm('c1'), 'same-cluster'],
    ['attachment in the data centre', attached, taker('p1', 'c2', able), vm('c2', 'dc1'), 'other-cluster'],
    ['attachment in another data centre', attached, taker('p1', 'c2', able), vm('c2', 'dc2'), undefined],
    ['attachment in a data centre not known', attached, taker('p1', 'c2', able), vm('c2'), undefined],
    ['attachment without the capability', attached, taker('p1', 'c1'), vm('c1', 'dc1'), undefined],
    ['attachment to no VM of ours', attached, taker('p1', 'c1', able), undefined, undefined],
    ['attachment beside the server', attached, taker('', '', able), undefined, undefined],
  ])('to %s', (_name, task, to, ofVm, hop) => {
    expect(hopTo(task, to, ofVm)).toBe(hop);
  });
});

describe('the choice of a worker', () => {
  const all = [worker('server', 'beside-server'), worker('other', 'other-cluster'), worker('own', 'same-cluster')];

  it('is the nearest one, without a reason', () => {
    expect(choose(placement, rules, all, outlook(none))).toEqual({ kind: 'worker', worker: all[2], hopReason: undefined });
  });

  it('is another cluster when none will come, with the reason', () => {
    expect(choose(placement, rules, all.slice(0, 2), outlook(none))).toEqual({
      kind: 'worker',
      worker: all[1],
      hopReason: { code: 'CLUSTER_FULL', message: "the VM's own cluster: no host has room" },
    });
  });

  it('is beside the server when nothing else is allowed or there, with all reasons', () => {
    expect(choose(placement, { ...rules, allowOtherClusters: false }, all.slice(0, 2), outlook(none))).toMatchObject({
      worker: { workerId: 'server' },
      hopReason: {
        code: 'CLUSTER_FULL',
        message: "the VM's own cluster: no host has room; other clusters: not allowed by the fleet's rules",
      },
    });
    expect(choose(placement, rules, all.slice(0, 1), outlook(none))).toMatchObject({
      hopReason: { message: "the VM's own cluster: no host has room; other clusters: no worker is connected" },
    });
  });

  it('waits for one that comes, but not for ever', () => {
    expect(choose(placement, rules, all.slice(0, 2), outlook(coming))).toEqual({ kind: 'coming', reason: 'worker-deploying' });
    expect(choose(placement, rules, all.slice(0, 2), outlook(coming, { comingForLong: true }))).toMatchObject({
      worker: { workerId: 'other' },
      hopReason: { code: 'worker-late' },
    });
  });

  it('waits for busy ones, for one more that comes, and goes on after a while', () => {
    const busy = [worker('own', 'same-cluster', 0), worker('other', 'other-cluster', 0), worker('server', 'beside-server')];
    expect(choose(placement, rules, busy, outlook(none))).toEqual({ kind: 'busy' });
    expect(choose(placement, rules, busy, outlook(coming))).toEqual({ kind: 'coming', reason: 'worker-deploying' });
    expect(choose(placement, rules, busy, outlook(none, { busyForLong: true }))).toMatchObject({
      worker: { workerId: 'server' },
      hopReason: { code: 'worker-slots' },
    });
    expect(choose(placement, { ...rules, allowBesideServer: false }, busy, outlook(none, { busyForLong: true }))).toEqual({ kind: 'busy' });
  });

  it('is in vain when there is no hop left, and says why for each', () => {
    expect(choose(placement, { ...rules, allowOtherClusters: false, allowBesideServer: false }, all.slice(0, 2), outlook(none))).toEqual({
      kind: 'none',
      hops:
        "the VM's own cluster: no host has room; other clusters: not allowed by the fleet's rules; " +
        "beside the server: not allowed by the fleet's rules",
    });
  });

  it('does not ask for worker VMs for a file, and is not bound by rules of platforms there', () => {
    const file = { platformId: '', clusterId: '' };
    const strict = { ...rules, allowBesideServer: false };
    let asked = 0;
    const unasked = outlook(none, { expectation: () => ((asked += 1), none) });
    expect(choose(file, strict, [worker('server', 'beside-server')], unasked)).toMatchObject({ kind: 'worker', hopReason: undefined });
    expect(choose(file, strict, [], unasked)).toMatchObject({ kind: 'none' });
    expect(asked).toBe(0);
  });

  it('prefers the least busy one, one that is sound, and another than the one that lost the task', () => {
    const own = [
      worker('a', 'same-cluster', 1, { usedSlots: 3 }),
      worker('b', 'same-cluster', 1, { usedSlots: 1 }),
      worker('c', 'same-cluster', 4, { stuck: true }),
    ];
    const chosen = (avoid?: string, from = own) => {
      const choice = choose(placement, rules, from, outlook(none, { avoid }));
      return choice.kind === 'worker' ? choice.worker.workerId : choice.kind;
    };
    expect(chosen()).toBe('b');
    expect(chosen('b')).toBe('a');
    expect(chosen('b', own.slice(1, 2))).toBe('b');
  });
});
