/**
 * Kill at every step of the life of a worker. A step is a journal write, a write of the list of workers, an engine request, a token or an
 * upload; its effect has happened, its answer is lost. Whatever step it was, after the next start no VM or disk is half-made, every worker in
 * the list works, and the same action can be done again.
 */
import { randomUUID } from 'node:crypto';
import { eventually } from '../testing/eventually';
import { Mortal } from '../testing/mortal';
import { WorkerWorld, clusterId, platformId, startWorkerBench } from '../testing/worker-bench';
import type { WorkerBench } from '../testing/worker-bench';
import { defaultSettings } from './settings';
import type { WorkerAction } from './worker-vms';

interface Scene {
  readonly world: WorkerWorld;
  /** Of the worker that is there before; empty when there is none. */
  readonly workerId: string;
}

async function scene(withWorker: boolean): Promise<Scene> {
  const world = new WorkerWorld();
  if (!withWorker) return { world, workerId: '' };
  await using at = await startWorkerBench(world, { kept: false });
  return { world, workerId: await at.deploy() };
}

/** Runs until the fatal step or to the end of the operation. */
async function runUntilDead({ world }: Scene, action: WorkerAction, fatalStep: number): Promise<{ steps: number; died: boolean }> {
  const mortal = new Mortal(fatalStep);
  const at = await startWorkerBench(world, { mortal, kept: false });
  let operationId = '';
  void at.start(action).then((id) => (operationId = id));
  await eventually('end or death', () => mortal.dead || at.registry.find(operationId)?.result !== undefined);
  const died = mortal.dead;
  mortal.kill();
  await at[Symbol.asyncDispose]();
  return { steps: mortal.steps, died };
}

/** Every VM and disk belongs to a worker of the list, or is the kept image. */
function isTidy(at: WorkerBench): boolean {
  const { engine } = at.world;
  const workers = at.store.workers();
  const vms = [...engine.vmsById.values()];
  const loose = [...engine.disksById.values()].filter((disk) => !vms.some((vm) => vm.attachments.some((a) => a.diskId === disk.id)));
  return (
    at.journal.openEntries().length === 0 &&
    vms.length === workers.length &&
    workers.every((worker) => {
      const vm = engine.vmsById.get(worker.vmId);
      return vm?.vm.name === worker.name && vm.attachments.length === 1 && worker.formerVmIds.length === 0;
    }) &&
    loose.every((disk) => disk.name.startsWith('tidemark-worker-image-') && disk.description.endsWith('state=complete')) &&
    loose.length <= 1 &&
    [...engine.disksById.values()].every((disk) => disk.status === 'ok')
  );
}

async function expectRecovered({ world }: Scene, again: (workers: readonly string[]) => WorkerAction): Promise<void> {
  await using at = await startWorkerBench(world);
  await eventually('a tidy engine', () => isTidy(at) && at.registry.runningIds().length === 0);
  await eventually(
    'workers that settled',
    () =>
      at.registry.runningIds().length === 0 && at.store.workers().every((worker) => ['ready', 'stopped', 'failed'].includes(worker.phase)),
  );
  const action = again(at.store.workers().map((worker) => worker.workerId));
  // A removal that was resumed has nothing left to remove.
  if (action.kind === 'remove' && !at.store.find(action.workerId)) return;
  const operation = await at.run(action);
  expect(operation.result?.failure).toBeUndefined();
  expect(operation.outcome).toBe('success');
  await eventually('a tidy engine again', () => isTidy(at));
}

const deployment = (): WorkerAction => ({ kind: 'deploy', workerId: randomUUID(), platformId, clusterId, settings: defaultSettings });

describe('a plug-in that is killed at any step', () => {
  it.each([
    ['a deployment', false, () => deployment()],
    ['a replacement', true, (workerId: string): WorkerAction => ({ kind: 'redeploy', workerId, force: false })],
    ['a stop', true, (workerId: string): WorkerAction => ({ kind: 'stop', workerId, force: false })],
    ['a removal', true, (workerId: string): WorkerAction => ({ kind: 'remove', workerId, force: false })],
  ])(
    'of %s leaves whole workers only',
    async (_what, withWorker, actionOf) => {
      const whole = await scene(withWorker);
      const { steps } = await runUntilDead(whole, actionOf(whole.workerId), Number.POSITIVE_INFINITY);
      whole.world[Symbol.dispose]();
      expect(steps).toBeGreaterThan(withWorker ? 4 : 30);
      for (let fatal = 1; fatal <= steps; fatal += 1) {
        const at = await scene(withWorker);
        using _world = at.world;
        await runUntilDead(at, actionOf(at.workerId), fatal);
        try {
          await expectRecovered(at, ([first = '']) => (withWorker ? actionOf(first) : deployment()));
        } catch (error) {
          throw new Error(`killed at step ${fatal} of ${steps}`, { cause: error });
        }
      }
    },
    480_000,
  );
});
