/** What is asked of a worker while it dials again: its stream was cut, as after a renewal of certificates, and its VM and its tasks go on. */
import { eventually } from '../testing/eventually';
import { TimedProcess } from '../testing/timed-process';
import { WorkerWorld, startWorkerBench } from '../testing/worker-bench';

async function fixture(world: WorkerWorld) {
  const time = new TimedProcess();
  const at = await startWorkerBench(world, { mortal: time, kept: false });
  const workerId = await at.deploy();
  const { vmId } = at.store.get(workerId);
  return {
    ...{ at, workerId },
    vmStatus: () => world.engine.vmsById.get(vmId)?.vm.status,
    starts: () => world.engine.calls.filter((call) => call === 'vms.startWithCloudInit').length,
    async cut() {
      time.stand();
      world.guests.silence(vmId);
      await eventually('the break', () => at.fleet.connected().length === 0);
      time.pass(1);
    },
    async mend() {
      world.guests.serve(at.fleet);
      await eventually('the worker', () => at.fleet.connected().length === 1);
      time.go();
    },
    [Symbol.asyncDispose]: async () => {
      time.go();
      await at[Symbol.asyncDispose]();
    },
  };
}

it('a stop waits for the tasks of a worker that dials again', async () => {
  using world = new WorkerWorld();
  await using made = await fixture(world);
  const { at, workerId } = made;
  const slot = at.fleet.take(workerId);
  await made.cut();
  const operation = at.registry.get(await at.start({ kind: 'stop', workerId, force: false }));
  for await (const told of operation.watch(0, 60_000, new AbortController().signal)) {
    const event = told?.event;
    if (event?.type === 'result' || (event?.type === 'state' && event.waitingReason === 'worker-tasks')) break;
  }
  expect([operation.result, made.vmStatus()]).toEqual([undefined, 'up']);
  await made.mend();
  slot.release();
  await eventually('the end', () => operation.result !== undefined);
  expect([operation.outcome, made.vmStatus()]).toEqual(['success', 'down']);
});

it.each(['test', 'start'] as const)('a %s waits for a worker that dials again, and leaves its VM alone', async (kind) => {
  using world = new WorkerWorld();
  await using made = await fixture(world);
  const { at, workerId } = made;
  await made.cut();
  const operation = at.registry.get(await at.start({ kind, workerId }));
  await made.mend();
  await eventually('the end', () => operation.result !== undefined);
  expect([operation.outcome, made.starts(), made.vmStatus()]).toEqual(['success', 1, 'up']);
});

it('a worker that is drained while it dials again is so when it is back', async () => {
  using world = new WorkerWorld();
  await using made = await fixture(world);
  await made.cut();
  await made.at.workerVms.drain(made.workerId);
  await made.mend();
  expect(made.at.workerVms.list()[0]?.state).toBe('drained');
});
