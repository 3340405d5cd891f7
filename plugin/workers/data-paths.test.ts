import type { ConnectResponse } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import { DataPaths } from './data-paths';
import type { DiskTask } from './tasks';
import { WorkerTasks } from './worker-tasks';

const pathTo = (mover: string, sessionId = 's1') => ({
  endpoints: [`${mover}:8445`],
  ticket: `for ${mover}`,
  sessionId,
  repositoryId: 'r1',
});
const backup = (sessionId = 's1'): DiskTask => ({ backupDisk: { diskId: 'd1', dataPath: pathTo('old', sessionId) } });
const restore: DiskTask = { restoreDisk: { diskId: 'd1', dataPath: pathTo('old') } };

function bench(capabilities: readonly string[]) {
  const paths = new DataPaths();
  const sent: ConnectResponse[] = [];
  const can = (capability: string) => capabilities.includes(capability);
  const tasks = new WorkerTasks(
    'w1',
    { cancelMs: 1000, stuckMs: 1000 },
    () => 0,
    (message) => sent.push(message),
    paths,
    can,
  );
  const outcomes: (string | undefined)[] = [];
  const run = (task: DiskTask) => {
    void tasks
      .run(task, { correlationId: 'c', signal: new AbortController().signal, progress: () => undefined })
      .then(({ failure }) => outcomes.push(failure?.code));
    return sent.at(-1)?.startTask?.taskId ?? '';
  };
  return {
    tasks,
    sent,
    outcomes,
    run,
    change: (mover: string) => {
      paths.change(pathTo(mover));
      tasks.changeDataPath(pathTo(mover));
    },
    forget: () => paths.forget('s1'),
  };
}

describe('another way to a mover session', () => {
  it('is told to running tasks of that session, and later ones begin with it', () => {
    const at = bench(['change-data-path']);
    const [first, other, second] = [at.run(backup()), at.run(backup('s2')), at.run(restore)];
    at.sent.length = 0;
    at.change('new');
    expect(at.sent).toEqual([first, second].map((taskId) => ({ changeDataPath: { taskId, dataPath: pathTo('new') } })));
    expect(other).not.toBe('');
    at.run(backup());
    expect(at.sent.at(-1)?.startTask?.backupDisk).toMatchObject({ diskId: 'd1', dataPath: pathTo('new') });
    at.run(restore);
    expect(at.sent.at(-1)?.startTask?.restoreDisk).toMatchObject({ dataPath: pathTo('new') });
    at.forget();
    at.run(backup());
    expect(at.sent.at(-1)?.startTask?.backupDisk).toMatchObject({ dataPath: pathTo('old') });
  });

  it('is told again after a break of the stream, and a task that the worker never got begins with it', () => {
    const at = bench(['change-data-path']);
    const [known, never] = [at.run(backup()), at.run(backup())];
    at.change('new');
    at.sent.length = 0;
    at.tasks.reconcile(new Set([known]), false);
    expect(at.sent).toMatchObject([
      { changeDataPath: { taskId: known, dataPath: pathTo('new') } },
      { startTask: { taskId: never, backupDisk: { dataPath: pathTo('new') } } },
    ]);
  });

  it('costs the task of a worker that cannot change over: it is lost, to be started anew', async () => {
    const at = bench([]);
    const taskId = at.run(backup());
    at.change('new');
    expect(at.sent.at(-1)).toEqual({ cancelTask: { taskId } });
    await Promise.resolve();
    expect(at.outcomes).toEqual(['WORKER_LOST']);
    expect(at.tasks.size).toBe(0);
  });

  it('that is a new ticket costs nothing: a worker that cannot be told goes on with what it has', async () => {
    for (const capabilities of [[], ['change-data-path']]) {
      const at = bench(capabilities);
      const taskId = at.run(backup());
      at.sent.length = 0;
      const path = { ...pathTo('old'), ticket: 'a new one' };
      at.tasks.changeDataPath(path);
      await Promise.resolve();
      expect(at.sent).toEqual(capabilities.length === 0 ? [] : [{ changeDataPath: { taskId, dataPath: path } }]);
      expect([at.outcomes, at.tasks.size]).toEqual([[], 1]);
      // Started anew after a break, it begins with the new one.
      at.tasks.reconcile(new Set(), false);
      expect(at.sent.at(-1)?.startTask?.backupDisk?.dataPath?.ticket).toBe('a new one');
    }
  });
});
