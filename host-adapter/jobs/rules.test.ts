import fs from 'node:fs';
import { defaultSettings } from '../catalogue/setting-store';
import { decideRetry } from './retry-policy';
import { checkSchedule, dueNow, nextRun } from './schedule';
import { parseExpression, selectVms } from './selector';
import { Slots } from './slots';
import { activeStates, checkTransition, finalStates, transitions, worstState } from './task-machine';

const vm = (name: string, more: object = {}) => ({
  platformId: 'p1',
  vmId: `id-${name}`,
  name,
  status: 'up',
  clusterId: 'c1',
  clusterName: 'East',
  tags: ['prod'],
  ...more,
});

describe('selector', () => {
  const all = [vm('web1'), vm('web2', { tags: [] }), vm('db', { clusterName: 'West', status: 'down' }), vm('a.b', { platformId: 'p2' })];
  const select = (include: string[], exclude: string[] = []) =>
    selectVms(all, { include, exclude }, new Map([['south', 'p2']])).map((one) => one.name);

  it.each([
    [['*'], [], ['web1', 'web2', 'db', 'a.b']],
    [['web1'], [], ['web1']],
    [['id-db'], [], ['db']],
    [['name:WEB?'], [], ['web1', 'web2']],
    [['tag:prod and cluster:east'], [], ['web1', 'a.b']],
    [['tag:prod and not name:web*'], [], ['db', 'a.b']],
    [['web*', 'db'], ['tag:prod'], ['web2']],
    [['platform:south'], [], ['a.b']],
    [['a?b'], [], ['a.b']],
    [['*b*1', '?b'], [], ['web1', 'db']],
    [['**'], [], ['web1', 'web2', 'db', 'a.b']],
    [['web1?', '?web1', 'web'], [], []],
    [['axb'], [], []],
    [['status:down'], [], ['db']],
  ])('%j without %j is %j', (include, exclude, expected) => expect(select(include, exclude)).toEqual(expected));

  it('answers at once, however many stars there are', () => {
    const long = [vm('a'.repeat(250))];
    expect(selectVms(long, { include: [`${'*a'.repeat(200)}*b`], exclude: [] })).toEqual([]);
    expect(selectVms(long, { include: [`${'*a'.repeat(200)}*`], exclude: [] })).toHaveLength(1);
  });

  it('takes each VM once and lets an exclude win', () => {
    expect(select(['web1', 'web*', '*'], ['name:web2'])).toEqual(['web1', 'db', 'a.b']);
  });

  it.each(['', 'color:red', 'name:', 'web1 and  and db', 'not '])('refuses "%s"', (expression) => {
    expect(() => parseExpression(expression)).toThrow(expect.objectContaining({ code: 'SELECTOR_INVALID' }));
  });
});

describe('schedule', () => {
  const nightly = { cron: '0 22 * * *', timeZone: 'UTC' };
  const at = (text: string) => new Date(`2030-03-${text}:00Z`);

  it('knows the next run, in its time zone', () => {
    expect(nextRun(nightly, at('01T12:00'))).toEqual(at('01T22:00'));
    expect(nextRun({ cron: '0 22 * * *', timeZone: 'Asia/Tokyo' }, at('01T12:00'))).toEqual(at('01T13:00'));
  });

  it('makes up for missed runs once, and not when too late', () => {
    expect(dueNow(nightly, at('01T22:00'), at('02T21:59'))).toBeUndefined();
    expect(dueNow(nightly, at('01T22:00'), at('02T22:00'))).toBe('run');
    expect(dueNow(nightly, at('01T22:00'), at('05T08:00'))).toBe('run');
    expect(dueNow(nightly, at('01T22:00'), at('05T12:00'))).toBe('missed');
    expect(dueNow(nightly, at('05T08:00'), at('05T12:00'))).toBeUndefined();
  });

  it.each(['often', '99 * * * *', ''])('refuses "%s"', (cron) => {
    expect(() => checkSchedule({ cron })).toThrow(expect.objectContaining({ code: 'SCHEDULE_INVALID' }));
  });
});

describe('retry policy', () => {
  const decide = (retry: string, attempt: number, more: object = {}) =>
    decideRetry({ code: 'X', retry, retryDelayMs: undefined, ...more } as never, attempt, defaultSettings, 0);

  it('follows the advice of the error and the delays of the settings', () => {
    expect([1, 2, 3].map((attempt) => decide('same-request', attempt)?.delayMs)).toEqual([300_000, 900_000, undefined]);
    expect(decide('after-delay', 1, { retryDelayMs: 400_000 })).toEqual({ delayMs: 400_000, forceFull: false });
    expect(decide('full-backup', 1)).toEqual({ delayMs: 0, forceFull: true });
    for (const advice of ['never', 'after-operator']) expect(decide(advice, 1)).toBeUndefined();
    expect(decideRetry({ code: 'X', retry: 'same-request', retryDelayMs: undefined }, 1, defaultSettings, 0.999)?.delayMs).toBe(329_970);
  });

  it('comes back soon after one of our own processes was restarted, but only once', () => {
    expect([1, 2].map((attempt) => decide('same-request', attempt, { code: 'PLUGIN_RESTARTED' })?.delayMs)).toEqual([5_000, 900_000]);
  });
});

describe('task states', () => {
  it('end from everywhere, and never go on after the end', () => {
    for (const state of activeStates) {
      for (const end of finalStates) expect(transitions[state]).toContain(end);
      if (state !== 'queued') expect(transitions[state]).toContain('queued');
    }
    for (const end of finalStates) expect(transitions[end]).toEqual([]);
    expect(() => checkTransition('success', 'queued')).toThrow(expect.objectContaining({ code: 'STATE_TRANSITION_INVALID' }));
    expect(() => checkTransition('cleaning', 'transferring')).toThrow();
  });

  it('make a session as bad as its worst task', () => {
    expect(worstState([])).toBe('success');
    expect(worstState(['success', 'warning', 'skipped'])).toBe('warning');
    expect(worstState(['cancelled', 'failed', 'partial'])).toBe('failed');
  });

  it('are those of the REST API', () => {
    const schemas = fs.readFileSync(require.resolve('../console/schemas/sessions'), 'utf8');
    for (const state of [...activeStates, ...finalStates]) expect(schemas).toContain(`'${state}'`);
  });
});

describe('slots', () => {
  const limit = (name: string, size: number) => ({ name, limit: size, reason: `${name}-full` });

  it('hold back what is too much, tell why, and pass it on', async () => {
    const slots = new Slots();
    const { signal } = new AbortController();
    const reasons: string[] = [];
    const first = await slots.take([limit('a', 1), limit('b', 2)], () => undefined, signal);
    let second: (() => void) | undefined;
    const waiting = slots.take([limit('a', 1)], (reason) => reasons.push(reason), signal).then((release) => (second = release));
    const beside = await slots.take([limit('b', 2)], () => undefined, signal);
    expect([second, reasons]).toEqual([undefined, ['a-full']]);
    first();
    first();
    await waiting;
    expect(second).toBeDefined();
    beside();
  });

  it('let a waiter go when it is cancelled', async () => {
    const slots = new Slots();
    const abort = new AbortController();
    slots.occupy([limit('a', 1)]);
    const waiting = slots.take([limit('a', 1)], () => undefined, abort.signal);
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
