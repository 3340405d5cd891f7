import { DeviceTree } from '../attached-disks/device-tree';
import { CommonErrors } from '../../common/errors/common-errors';
import { loggerTo } from '../../common/log/logger';
import type { StartTask__Output } from '../../proto/gen/tidemark/worker/v1/StartTask';
import type { TaskResult } from '../../proto/gen/tidemark/worker/v1/TaskResult';
import type { DataPath__Output } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { MoverAddress } from '../mover-client/dial-mover';
import type { DiskTask, TaskContext } from './disk-task';
import { TaskRegistry } from './task-registry';

interface Running {
  readonly context: TaskContext;
  finish(): void;
  fail(error: unknown): void;
}

function registryOf(slots: number) {
  const running: Running[] = [];
  const results: TaskResult[] = [];
  const lines: string[] = [];
  const registry = new TaskRegistry(
    {
      read: () => ({ kind: 'backup', diskId: 'd', source: { kind: 'device', path: 'p', sizeBytes: 9 } }) as unknown as DiskTask,
      readDataPath: (dataPath) => {
        if (dataPath?.endpoints.length === 0) throw CommonErrors.ARGUMENT_INVALID({ field: 'data_path', problem: 'no endpoint' });
        return dataPath as unknown as MoverAddress;
      },
      devices: new DeviceTree(),
      run: (_task, context) =>
        new Promise<void>((finish, fail) => {
          running.push({ context, finish, fail });
          context.signal.addEventListener('abort', () => fail(CommonErrors.CANCELLED({ what: 'the backup' })));
        }),
    },
    slots,
    loggerTo((_level, text, fields) => lines.push(`${text} ${JSON.stringify(fields)}`)),
  );
  registry.onResult = (result) => results.push(result);
  return { registry, running, results, lines };
}

const start = (taskId: string) => ({ taskId, correlationId: 'c' }) as StartTask__Output;
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('task registry', () => {
  it('hands a new data path to the running task that it is for', () => {
    const { registry, running, lines } = registryOf(2);
    registry.start(start('a'), true);
    registry.start(start('b'), true);
    const dataPath = { endpoints: ['gateway:8445'], ticket: 't' } as DataPath__Output;
    const heard: unknown[] = [];
    running[0]?.context.route.onChange((address) => heard.push(address));
    const { replaced } = running[0]?.context.route ?? {};
    registry.changeDataPath('a', dataPath);
    registry.changeDataPath('unknown', dataPath);
    registry.changeDataPath('a', { ...dataPath, endpoints: [] });
    expect(heard).toEqual([dataPath]);
    expect(replaced?.aborted).toBe(true);
    expect(running.map(({ context }) => context.route.current)).toEqual([dataPath, undefined]);
    expect(lines.filter((line) => line.startsWith('a new data path cannot be used'))).toHaveLength(1);
  });

  it('takes a new ticket for the same mover without leaving it', () => {
    const { registry, running } = registryOf(1);
    registry.start(start('a'), true);
    const dataPath = { endpoints: ['gateway:8445'], serverName: '', ticket: 'first' } as unknown as DataPath__Output;
    registry.changeDataPath('a', dataPath);
    const { route } = running[0]?.context ?? {};
    const replaced = route?.replaced;
    const heard: unknown[] = [];
    route?.onChange((address) => heard.push(address.ticket));
    registry.changeDataPath('a', { ...dataPath, ticket: 'second' });
    expect([heard, route?.current?.ticket, replaced?.aborted]).toEqual([['second'], 'second', false]);
    registry.changeDataPath('a', { ...dataPath, endpoints: ['gateway:8446'], ticket: 'third' });
    expect([heard, replaced?.aborted]).toEqual([['second', 'third'], true]);
  });

  it('answers a finished task again until its result is stored', async () => {
    const { registry, running, results } = registryOf(2);
    registry.start(start('a'), true);
    registry.start(start('a'), true);
    expect(running).toHaveLength(1);
    running[0]?.context.counters.add('readBytes', 5);
    running[0]?.finish();
    await settled();
    registry.start(start('a'), true);
    expect(results.map((r) => [r.taskId, r.counters?.readBytes, r.failure])).toEqual([
      ['a', '5', undefined],
      ['a', '5', undefined],
    ]);
    expect(registry.taskIds).toEqual(['a']);
    registry.forget('a');
    expect(registry.taskIds).toEqual([]);
  });

  it('answers a cancelled task with CANCELLED, also one that it never heard of', async () => {
    const { registry, results } = registryOf(2);
    registry.start(start('a'), true);
    registry.cancel('a');
    registry.cancel('unknown');
    await settled();
    expect(results.map((r) => [r.taskId, r.failure?.code]).sort()).toEqual([
      ['a', 'CANCELLED'],
      ['unknown', 'CANCELLED'],
    ]);
  });

  it('refuses what is beyond its slots, and everything while it drains, with a delay', async () => {
    const { registry, results } = registryOf(1);
    registry.start(start('a'), true);
    registry.start(start('b'), true);
    registry.start(start('c'), false);
    await settled();
    expect(results.map((r) => [r.taskId, r.failure?.code, r.failure?.retry])).toEqual([
      ['b', 'WORKER_SLOTS_TAKEN', 'RETRY_ADVICE_AFTER_DELAY'],
      ['c', 'WORKER_SLOTS_TAKEN', 'RETRY_ADVICE_AFTER_DELAY'],
    ]);
    registry.cancelAll();
    await settled();
  });

  it('takes anything foreign for a defect and keeps the correlation id', async () => {
    const { registry, running, results } = registryOf(1);
    registry.start(start('a'), true);
    running[0]?.fail(new RangeError('oops'));
    await settled();
    expect(results[0]?.failure).toMatchObject({ code: 'INTERNAL', kind: 'FAILURE_KIND_BUG', correlationId: 'c' });
  });

  it('reports the progress of what runs', () => {
    const { registry, running } = registryOf(1);
    registry.start(start('a'), true);
    running[0]?.context.counters.add('transferredBytes', 3);
    expect(registry.progress()).toMatchObject([{ taskId: 'a', counters: { transferredBytes: '3' }, totalBytes: '9' }]);
    registry.cancelAll();
  });
});
