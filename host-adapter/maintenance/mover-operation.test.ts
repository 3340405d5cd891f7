import { CommonErrors } from '../../common/errors/common-errors';
import { pause } from '../../common/rpc/call';
import type { SessionStore } from '../catalogue/session-store';
import type { SettingStore } from '../catalogue/setting-store';
import { defaultSettings } from '../catalogue/setting-store';
import { HostErrors } from '../errors/host-errors';
import type { FlowEnd } from '../jobs/flow';
import type { SessionRecord } from '../jobs/session-record';
import { TaskContext } from '../jobs/task-context';
import { newTask } from '../jobs/task-record';
import type { TaskRecord } from '../jobs/task-record';
import type { MoverClient } from '../registry/mover-connections';
import { moverError } from '../testing/fake-repository';
import { quiet, until } from '../testing/fake-process';
import { followMoverOperation } from './mover-operation';

const unreachable = () => CommonErrors.PEER_UNAVAILABLE({ peer: 'mover' });

/** Movers `a` and `b` in memory, whose operations run until `finish`; what the server kept of the task survives it. */
class Bench {
  readonly kept = { task: newTask({ id: 't', sessionId: 's', ordinal: 0, platformId: '', vmId: '', vmName: 'main' }) };
  readonly cancel = new AbortController();
  shutdown = new AbortController();
  /** Operation ids by mover and request. */
  readonly operations = new Map<string, string>();
  readonly starts: string[] = [];
  readonly watches: string[] = [];
  readonly cancels: string[] = [];
  readonly startFailures: Error[] = [];
  readonly lostAnswers: Error[] = [];
  readonly cancelFailures: Error[] = [];
  readonly results: Error[] = [];
  readonly away = new Set<string>();
  started: () => void = () => undefined;
  readonly reasons: (string | null)[] = [];
  #end = new Map<string, FlowEnd>();

  finish(operationId: string, state: FlowEnd['state'] = 'success', failure?: FlowEnd['failure']): void {
    this.#end.set(operationId, { state, ...(failure && { failure }) });
  }

  run(): Promise<FlowEnd> {
    const task = structuredClone(this.kept.task);
    const store = {
      saveTask: async (record: TaskRecord) => {
        this.kept.task = structuredClone(record);
        this.reasons.push(record.waitingReason);
      },
    } as unknown as SessionStore;
    const session = { id: 's', repositoryId: 'r' } as SessionRecord;
    const settings = { current: defaultSettings } as SettingStore;
    const now = () => new Date();
    const context = new TaskContext(task, session, this.cancel.signal, this.shutdown.signal, store, settings, now, quiet);
    const client = (id: string) => {
      if (this.away.has(id)) throw HostErrors.MOVER_LOST({ mover: id });
      return { id } as MoverClient;
    };
    const repositories = {
      mover: async () => client(this.away.has('a') ? 'b' : 'a'),
      at: async (_repository: string, id: string) => client(id),
    };
    return followMoverOperation(
      context,
      repositories,
      {
        start: async ({ id }, requestId) => {
          const failure = this.startFailures.shift();
          if (failure) throw failure;
          const key = `${id} ${requestId}`;
          this.starts.push(key);
          const operationId = this.operations.get(key) ?? `${id}-${this.operations.size + 1}`;
          this.operations.set(key, operationId);
          this.started();
          const lost = this.lostAnswers.shift();
          if (lost) throw lost;
          return operationId;
        },
        watch: (_mover, operationId, { signal }) => this.#watch(operationId, signal),
        cancel: async (_mover, operationId) => {
          this.cancels.push(operationId);
          const failure = this.cancelFailures.shift();
          if (failure) throw failure;
          this.finish(operationId, 'cancelled');
        },
        take: (event: FlowEnd) => {
          if (event.failure) throw event.failure;
          return event;
        },
      },
      1,
    );
  }

  async *#watch(operationId: string, signal: AbortSignal): AsyncGenerator<FlowEnd> {
    this.watches.push(operationId);
    const failure = this.results.shift();
    if (failure) throw failure;
    for (;;) {
      const end = this.#end.get(operationId);
      if (end) return yield end;
      await pause(2, signal);
    }
  }
}

describe('an operation of a mover', () => {
  let bench: Bench;
  beforeEach(() => (bench = new Bench()));

  it('that the mover stopped is started again, not watched for ever', async () => {
    bench.finish('a-1', 'failed', HostErrors.OPERATION_STOPPED({ operationId: 'a-1' }));
    bench.finish('a-2');
    expect(await bench.run()).toEqual({ state: 'success' });
    expect(bench.watches).toEqual(['a-1', 'a-2']);
    expect(new Set(bench.starts).size).toBe(2);
  });

  it('is cancelled by asking until the mover heard it', async () => {
    bench.cancelFailures.push(unreachable(), unreachable());
    const ended = bench.run();
    await until(() => bench.watches.length === 1);
    bench.cancel.abort();
    expect(await ended).toEqual({ state: 'cancelled' });
    expect(bench.cancels).toEqual(['a-1', 'a-1', 'a-1']);
  });

  it('is cancelled also when the watch breaks off meanwhile', async () => {
    bench.cancelFailures.push(unreachable());
    const ended = bench.run();
    await until(() => bench.watches.length === 1);
    bench.results.push(unreachable());
    bench.cancel.abort();
    expect(await ended).toEqual({ state: 'cancelled' });
    expect(bench.cancels.length).toBeGreaterThan(1);
  });

  it('is not started twice when the answer to its start is lost', async () => {
    bench.lostAnswers.push(unreachable());
    const ended = bench.run();
    await until(() => bench.watches.length === 1);
    bench.finish('a-1');
    expect(await ended).toEqual({ state: 'success' });
    expect(new Set(bench.starts).size).toBe(1);
    expect(bench.starts).toHaveLength(2);
  });

  it('is found again by the next server, at the mover that has it', async () => {
    bench.away.add('a');
    const first = bench.run().catch(() => undefined);
    await until(() => bench.watches.length === 1);
    bench.shutdown.abort();
    await first;
    bench.shutdown = new AbortController();
    // The one that comes first otherwise.
    bench.away.clear();
    const ended = bench.run();
    await until(() => bench.watches.length === 2);
    bench.finish('b-1');
    expect(await ended).toEqual({ state: 'success' });
    expect(bench.starts).toHaveLength(1);
  });

  it('is started at another mover when its own is gone', async () => {
    bench.results.push(unreachable());
    bench.started = () => void bench.away.add('a');
    const ended = bench.run();
    await until(() => bench.starts.length === 2 && bench.watches.length === 2);
    bench.finish('b-2');
    expect(await ended).toEqual({ state: 'success' });
    expect(bench.watches).toEqual(['a-1', 'b-2']);
  });

  it('waits while another mover maintains, with the reason', async () => {
    bench.results.push(moverError('MAINTENANCE_BUSY', 'ABORTED'));
    const ended = bench.run();
    await until(() => bench.watches.length === 2);
    bench.finish('a-2');
    expect(await ended).toEqual({ state: 'success' });
    expect(bench.reasons).toContain('repository-maintenance');
  });

  it('leaves nothing behind when it fails, so that the next try is another one', async () => {
    bench.results.push(moverError('REPOSITORY_DAMAGED', 'DATA_LOSS'));
    await expect(bench.run()).rejects.toMatchObject({ code: 'REPOSITORY_DAMAGED' });
    expect(bench.operations.size).toBe(1);
  });
});
