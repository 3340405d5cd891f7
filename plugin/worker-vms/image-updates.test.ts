/** Workers of another image where there is no room for a new VM, over an engine in memory. */
import { eventually } from '../testing/eventually';
import { WorkerWorld, clusterId, platformId, startWorkerBench } from '../testing/worker-bench';
import { defaultPolicy } from './policy';

const minute = 60_000;

it('a worker that cannot be replaced goes on, is left alone for longer and longer, and is told of once', async () => {
  using world = new WorkerWorld();
  await using at = await startWorkerBench(world, { kept: true });
  await at.workerVms.putPolicy({ ...defaultPolicy(platformId), warmWorkers: 1 });
  const workerId = await at.deploy();
  const { vmId } = at.store.get(workerId);
  const [row] = world.engine.hostRows;
  world.engine.hostRows = [];
  world.putImage('1.10.0');
  const refused = () => at.registry.list(0).filter((one) => one.outcome === 'failed');
  await eventually('three refusals', () => refused().length >= 3);
  const [first, second, third] = refused().map(({ header }) => header.startedAt);
  expect(second! - first!).toBeGreaterThanOrEqual(minute / 2);
  expect(third! - second!).toBeGreaterThanOrEqual(2 * minute);
  expect(at.reported.map(({ code }) => code)).toEqual(['WORKER_DEPLOYED', 'WORKER_REPLACEMENT_FAILED']);
  expect(at.workerVms.list()).toMatchObject([{ workerId, state: 'connected', outdated: true }]);
  expect(at.store.get(workerId)).toMatchObject({ vmId, retryAt: 0 });
  world.engine.hostRows = [row!];
  await eventually('the new VM', () => at.store.get(workerId).imageVersion === '1.10.0');
  expect(at.reported.map(({ code }) => code).at(-1)).toBe('WORKER_REPLACED');
});

it('a stopped worker that cannot be replaced is started for a task all the same', async () => {
  using world = new WorkerWorld();
  await using at = await startWorkerBench(world, { kept: true });
  const workerId = await at.deploy();
  await at.run({ kind: 'stop', workerId, force: false });
  world.engine.hostRows = [];
  world.putImage('1.10.0');
  await eventually('a refusal', () => at.reported.some(({ code }) => code === 'WORKER_REPLACEMENT_FAILED'));
  expect(at.workerVms.supply.want({ platformId, clusterId })).toEqual({ kind: 'coming', reason: 'worker-starting' });
});
