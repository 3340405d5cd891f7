import { CommonErrors } from '../../common/errors/common-errors';
import { Journal } from '../journal/journal';
import { MemoryJournalFile } from '../testing/memory-journal-file';
import { SteadyClock } from '../testing/steady-clock';
import { quietLogger } from '../testing/quiet-logger';
import { eventually } from '../testing/eventually';
import type { SequencedEvent } from './events';
import type { OperationScope } from './operation';
import { restoredSequenceBase } from './operation';
import { OperationRegistry } from './operation-registry';
import type { FlowResult } from './operation-registry';

const success: FlowResult = { outcome: 'success', createdId: '', disks: [], leftForJanitor: [] };
const clock = new SteadyClock();

async function fixture(file = new MemoryJournalFile(), limits?: ConstructorParameters<typeof OperationRegistry>[3]) {
  const { logger } = quietLogger();
  const journal = new Journal(file, logger);
  await journal.open();
  const registry = new OperationRegistry(journal, clock, logger, limits);
  await registry.restore();
  return { journal, registry, file };
}

function start(
  registry: OperationRegistry,
  operationId: string,
  run: (scope: OperationScope) => Promise<FlowResult>,
  more: { vmId?: string; fingerprint?: string } = {},
) {
  return registry.start({
    header: {
      operationId,
      kind: 'backup',
      sessionId: 's',
      platformId: 'p',
      vm: { platformId: 'p', vmId: more.vmId ?? 'vm' },
      fingerprint: more.fingerprint ?? 'f',
    },
    run,
  });
}

function untilCancelled(scope: OperationScope): Promise<FlowResult> {
  return new Promise((_, reject) => scope.signal.addEventListener('abort', () => reject(scope.signal.reason as Error)));
}

async function watch(registry: OperationRegistry, id: string, after = 0, signal = new AbortController().signal) {
  const seen: (SequencedEvent | undefined)[] = [];
  for await (const event of registry.get(id).watch(after, 20, signal)) seen.push(event);
  return seen;
}

describe('operations', () => {
  it('run once per id and answer a repetition', async () => {
    const { registry } = await fixture();
    let runs = 0;
    const run = async () => {
      runs += 1;
      return success;
    };
    const [first, second] = await Promise.all([start(registry, 'a', run), start(registry, 'a', run)]);
    expect(second).toBe(first);
    await eventually('the end', () => first.result !== undefined);
    expect(await start(registry, 'a', run)).toBe(first);
    expect(runs).toBe(1);
    await expect(start(registry, 'a', run, { fingerprint: 'other' })).rejects.toMatchObject({ code: 'REQUEST_ID_REUSED' });
  });

  it('have a VM one at a time', async () => {
    const { registry } = await fixture();
    await start(registry, 'a', untilCancelled);
    await expect(start(registry, 'b', untilCancelled)).rejects.toMatchObject({
      code: 'VM_BUSY',
      retry: 'after-delay',
      meta: { operationId: 'a' },
    });
    await start(registry, 'c', untilCancelled, { vmId: 'other' });
    expect(registry.runningIds().sort()).toEqual(['a', 'c']);
    registry.get('a').cancel();
    await eventually('a to end', () => !registry.isRunning('a'));
    await start(registry, 'b', async () => success);
    registry.get('c').cancel();
    await eventually('all to end', () => registry.runningIds().length === 0);
  });

  it('end cancelled when asked to, failed when they throw, and never hide a defect', async () => {
    const { registry } = await fixture();
    await start(registry, 'a', untilCancelled);
    registry.get('a').cancel();
    registry.get('a').cancel();
    await start(registry, 'b', () => Promise.reject(CommonErrors.PEER_UNAVAILABLE({ peer: 'x' })), { vmId: '2' });
    await start(registry, 'c', () => Promise.reject(new RangeError('boom')), { vmId: '3' });
    await eventually('all to end', () => registry.runningIds().length === 0);
    expect(registry.get('a').result).toMatchObject({ outcome: 'cancelled', failure: { code: 'CANCELLED' } });
    expect(registry.get('b').result).toMatchObject({ outcome: 'failed', failure: { code: 'PEER_UNAVAILABLE' } });
    expect(registry.get('c').result).toMatchObject({ outcome: 'failed', failure: { code: 'INTERNAL', kind: 'bug' } });
  });

  it('are watched from any sequence, with keep-alives, to the final event', async () => {
    const { registry } = await fixture();
    let go: (() => void) | undefined;
    await start(registry, 'a', async (scope) => {
      scope.phase('transferring');
      for (let i = 1; i <= 50; i += 1) {
        const counters = { plannedBytes: 50, readBytes: i, transferredBytes: 0, storedBytes: 0, zeroBytes: 0, deduplicatedBytes: 0 };
        scope.progress({ diskId: 'd', diskName: 'disk', counters, totalBytes: 50, mode: 'full', reason: '' });
      }
      scope.note({ code: 'net-path-proxy', severity: 'info', message: 'm', diskId: 'd' });
      await new Promise<void>((resolve) => (go = resolve));
      return success;
    });
    const all = watch(registry, 'a');
    await eventually('flow to wait', () => go !== undefined);
    const late = watch(registry, 'a', 4);
    await new Promise((resolve) => setTimeout(resolve, 60));
    go?.();
    const events = await all;
    const real = events.filter((e) => e !== undefined);
    expect(events.some((e) => e === undefined)).toBe(true);
    expect(real.map((e) => e.event.type)).toEqual(['state', 'state', 'progress', 'note', 'result']);
    expect(real.map((e) => e.sequence)).toEqual([...real.map((e) => e.sequence)].sort((x, y) => x - y));
    expect(real[2]?.event).toMatchObject({ counters: { readBytes: 50 } });
    expect((await late).filter((e) => e !== undefined).map((e) => e.event.type)).toEqual(['progress', 'note', 'result']);
    expect(await watch(registry, 'a', 10_000)).toEqual([]);
    expect(() => registry.get('zzz')).toThrow(expect.objectContaining({ code: 'OPERATION_NOT_FOUND' }));
  });

  it('stop being watched when the caller goes', async () => {
    const { registry } = await fixture();
    await start(registry, 'a', untilCancelled);
    const gone = new AbortController();
    const seen = watch(registry, 'a', 0, gone.signal);
    gone.abort();
    expect((await seen).length).toBeLessThanOrEqual(1);
    registry.get('a').cancel();
  });

  it('wait for the verdict, keep it when it was commit, and give up after the time', async () => {
    const { registry } = await fixture();
    const awaiting = { pointInTime: 1, checkpointId: 'c', consistency: 'crash' as const, disks: [], configuration: 'x', vmName: 'vm' };
    const verdicts: boolean[] = [];
    const run = (timeoutMs: number) => async (scope: OperationScope) => {
      verdicts.push(await scope.awaitCommit(awaiting, timeoutMs));
      return success;
    };
    const a = await start(registry, 'a', run(900_000));
    expect(() => registry.get('a').conclude(true)).not.toThrow();
    a.conclude(true);
    await eventually('a to end', () => a.result !== undefined);
    a.conclude(false);
    expect(verdicts).toEqual([true]);
    const b = await start(registry, 'b', run(900_000));
    b.conclude(false);
    await eventually('b to end', () => b.result !== undefined);
    expect(verdicts).toEqual([true, false]);
    const c = await start(registry, 'c', run(5_000));
    await eventually('c to end', () => c.result !== undefined);
    expect(c.result).toMatchObject({ outcome: 'failed', failure: { code: 'COMMIT_NOT_CONFIRMED' } });
    expect(() => c.conclude(true)).toThrow(expect.objectContaining({ code: 'OPERATION_NOT_FOUND' }));
    const d = await start(registry, 'd', untilCancelled);
    expect(() => d.conclude(true)).toThrow(expect.objectContaining({ code: 'OPERATION_NOT_AWAITING_COMMIT' }));
    d.conclude(false);
    await eventually('d to end', () => d.outcome === 'cancelled');
  });

  it('are reported failed after a restart, behind every sequence sent before, and clean ones as they ended', async () => {
    const file = new MemoryJournalFile();
    const first = await fixture(file);
    const a = await start(first.registry, 'a', async () => ({ ...success, outcome: 'warning', createdId: 'made' }));
    await eventually('a to end', () => a.result !== undefined);
    await start(first.registry, 'b', untilCancelled);
    await first.journal.intend({ operationId: 'b', platformId: 'p', vmId: 'vm', kind: 'backup', mark: 'm', objectId: 'b1' });

    const second = await fixture(file);
    expect(second.registry.get('a').result).toMatchObject({ outcome: 'warning', createdId: 'made' });
    const events = await watch(second.registry, 'b', 17);
    expect(events).toHaveLength(1);
    expect(events[0]?.sequence).toBeGreaterThan(restoredSequenceBase);
    expect(events[0]?.event).toMatchObject({
      outcome: 'failed',
      failure: { code: 'PLUGIN_RESTARTED', retry: 'same-request' },
      leftForJanitor: ['backup b1'],
    });
    expect(second.registry.isRunning('b')).toBe(false);
    await start(second.registry, 'c', async () => success);
    first.registry.get('b').cancel();

    const third = await fixture(file);
    expect(third.registry.get('b').result).toMatchObject({ failure: { code: 'PLUGIN_RESTARTED' } });
  });

  it('are bounded in number and forgotten after a day', async () => {
    const { registry, journal } = await fixture(undefined, { keepEndedMs: 3_600_000, maxEnded: 2, maxRunning: 2 });
    for (const id of ['a', 'b', 'c', 'd']) {
      const operation = await start(registry, id, async () => success);
      await eventually(`${id} to end`, () => operation.result !== undefined);
    }
    expect(registry.list(0).map((o) => o.header.operationId)).toEqual(['c', 'd']);
    expect(journal.operations()).toHaveLength(2);
    await start(registry, 'x', untilCancelled, { vmId: '1' });
    await start(registry, 'y', untilCancelled, { vmId: '2' });
    await expect(start(registry, 'z', untilCancelled, { vmId: '3' })).rejects.toMatchObject({ code: 'PLUGIN_BUSY' });
    await registry.stop(60_000);
    expect(registry.runningIds()).toEqual([]);
    await expect(start(registry, 'q', untilCancelled)).rejects.toMatchObject({ code: 'PLUGIN_STOPPING' });
  });
});
