/** When a worker counts as lost, over an engine in memory, with looks that come late and answers that take their time. */
import { eventually } from '../testing/eventually';
import { TimedProcess } from '../testing/timed-process';
import { WorkerWorld, startWorkerBench } from '../testing/worker-bench';
import type { WorkerBench } from '../testing/worker-bench';
import { defaultWorkerVmLimits } from './timing';

const minute = 60_000;

const told = (at: WorkerBench) => at.reported.map(({ code }) => code);
const connected = (at: WorkerBench) => eventually('the worker', () => at.workerVms.list()[0]?.state === 'connected');

/** A worker whose stream ended just now, ten minutes after the last look: an engine hung. */
async function fixture(world: WorkerWorld) {
  const time = new TimedProcess();
  const at = await startWorkerBench(world, { mortal: time, kept: false });
  const { vmId } = at.store.get(await at.deploy());
  const { keeper } = at.workerVms;
  await keeper.look();
  time.stand();
  time.pass(10 * minute);
  world.guests.silence(vmId);
  await eventually('the end of its stream', () => at.fleet.connected().length === 0);
  return { at, keeper, time, [Symbol.asyncDispose]: () => at[Symbol.asyncDispose]() };
}

it('a worker is lost when it was away for long, not when nobody looked for long', async () => {
  using world = new WorkerWorld();
  await using made = await fixture(world);
  const { at, keeper, time } = made;
  await keeper.look();
  time.pass(defaultWorkerVmLimits.lostMs - 1);
  await keeper.look();
  expect(told(at)).toEqual(['WORKER_DEPLOYED']);
  time.pass(1);
  await keeper.look();
  expect(told(at).slice(0, 2)).toEqual(['WORKER_DEPLOYED', 'WORKER_VM_LOST']);
  time.go();
  await connected(at);
});

it('a worker is not lost that is back before the engine has said what became of its VM', async () => {
  using world = new WorkerWorld();
  await using made = await fixture(world);
  const { at, keeper, time } = made;
  time.pass(defaultWorkerVmLimits.lostMs);
  let asked = 0;
  world.engine.before = (call) => {
    if (call !== 'vms.find') return;
    asked += 1;
    world.guests.serve(at.fleet);
  };
  await keeper.look();
  await connected(at);
  await keeper.look();
  expect([asked, told(at)]).toEqual([1, ['WORKER_DEPLOYED']]);
  time.go();
});
