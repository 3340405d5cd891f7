/**
 * The life of a worker VM against the lab's engine, hosts and image daemons, whose states, locks and refusals are not ours. The image is a small
 * disk that boots nothing; who dials in from the VM is in memory. That a worker in a VM works is the business of `test/e2e`.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Engine } from '../engine/engine';
import { eventually } from '../testing/eventually';
import { startLabEngine } from '../testing/lab-engine';
import type { LabEngine } from '../testing/lab-engine';
import { MemoryWorker } from '../testing/memory-worker';
import { Mortal } from '../testing/mortal';
import { SteadyClock } from '../testing/steady-clock';
import { WorkerWorld, platformId, startWorkerBench } from '../testing/worker-bench';
import type { WorkerBench } from '../testing/worker-bench';
import { parseWorkerComment } from './marks';
import { defaultSettings } from './settings';

/** The lab's engine hurries, so the flows look more often. */
const clock = new SteadyClock(6);
const limits = { minFreeBytes: 0, minFreePercent: 0, shutdownMs: 30_000 };

let lab: LabEngine;
let engine: Engine;
let clusterId: string;

beforeAll(async () => {
  lab = await startLabEngine({ vms: [{ name: 'web', cluster: 'Default', nics: 1, disks: [{ name: 'system', sizeMib: 16 }] }] });
  engine = lab.engine;
  clusterId = (await engine.clusters.list()).find((cluster) => cluster.name === 'Default')?.id ?? '';
});

afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

/** A real disk, of content that no compression helps. */
function putImage(world: WorkerWorld, version: string): Buffer {
  const [raw, file] = [path.join(world.folder, 'raw'), path.join(world.folder, `tidemark-worker-${version}.qcow2`)];
  const content = Buffer.concat([randomBytes(3 * 1024 ** 2), Buffer.alloc(1024 ** 2)]);
  fs.writeFileSync(raw, content);
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, file]);
  const sha256 = createHash('sha256').update(fs.readFileSync(file)).digest('hex');
  fs.writeFileSync(path.join(world.folder, `tidemark-worker-${version}.json`), JSON.stringify({ version, sha256 }));
  return content;
}

/** Dials in from each worker VM that comes up, and hangs up when it goes. */
function guestsOf(at: WorkerBench): { stop(): Promise<void> } {
  const dialled = new Map<string, MemoryWorker>();
  let stopped = false;
  const watch = async () => {
    while (!stopped) {
      for await (const page of engine.vms.pages()) {
        for (const vm of page) {
          const workerId = parseWorkerComment(vm.comment)?.workerId;
          if (workerId === undefined) continue;
          if (vm.status === 'up' && !dialled.has(vm.id)) {
            const place = { platformId, clusterId, capabilities: ['resume'] };
            dialled.set(vm.id, new MemoryWorker(at.fleet, workerId, 4, place));
          } else if (vm.status === 'down') {
            dialled.get(vm.id)?.kill();
            dialled.delete(vm.id);
          }
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    for (const worker of dialled.values()) worker.kill();
  };
  const running = watch();
  return {
    stop: async () => {
      stopped = true;
      await running;
    },
  };
}

async function names(): Promise<{ vms: string[]; disks: string[] }> {
  const [vms, disks]: [string[], string[]] = [[], []];
  for await (const page of engine.vms.pages()) for (const vm of page) vms.push(vm.name);
  for await (const page of engine.disks.pages()) for (const disk of page) disks.push(disk.name.replace(/-system-.*/, '-system'));
  return { vms: vms.sort(), disks: disks.sort() };
}

it('deploys, stops, starts, replaces and removes a worker; a kill leaves nothing', async () => {
  using world = new WorkerWorld('');
  putImage(world, '1.0.0');
  const settings = { ...defaultSettings, taskSlots: 1 };
  const deployment = { kind: 'deploy' as const, platformId, clusterId, settings };
  {
    // Killed while the image is on its way, and while the VM is made.
    for (const fatalStep of [12, 25]) {
      const mortal = new Mortal(fatalStep);
      const dead = await startWorkerBench(world, { mortal, kept: false, real: { engine: mortal.engine(engine), clock, limits } });
      void dead.start({ ...deployment, workerId: randomUUID() });
      await eventually('the kill', () => mortal.dead);
      await dead[Symbol.asyncDispose]();
    }
  }
  await using at = await startWorkerBench(world, { real: { engine, clock, limits } });
  const guests = guestsOf(at);
  try {
    await eventually('a clean engine', async () => at.journal.openEntries().length === 0 && (await names()).vms.length === 1);
    const workerId = randomUUID();
    const deployed = await at.run({ ...deployment, workerId });
    expect(deployed.result?.failure).toBeUndefined();
    expect(await names()).toEqual({
      vms: ['tidemark-worker-Default-01', 'web'],
      disks: ['system', 'tidemark-worker-Default-01-system', 'tidemark-worker-image-1.0.0'],
    });
    const made = await engine.vms.findByName('tidemark-worker-Default-01', { with: ['tags', 'nics', 'diskAttachments'] });
    expect(made).toMatchObject({
      status: 'up',
      deleteProtected: true,
      highlyAvailable: false,
      tags: [{ name: 'tidemark' }, { name: 'tidemark-worker' }],
    });
    expect(made?.nics).toHaveLength(1);
    expect(made?.diskAttachments).toMatchObject([
      { bootable: true, interface: 'virtio_scsi', disk: { provisionedBytes: 4 * 1024 ** 2, status: 'ok' } },
    ]);
    expect((await engine.affinityGroups.list(clusterId)).map((group) => [group.name, group.vmIds])).toEqual([
      ['tidemark-workers', [made?.id]],
    ]);

    expect((await at.run({ kind: 'stop', workerId, force: false })).result?.failure).toBeUndefined();
    expect((await engine.vms.get(made?.id ?? '')).status).toBe('down');
    expect((await at.run({ kind: 'start', workerId })).result?.failure).toBeUndefined();

    putImage(world, '2.0.0');
    expect((await at.run({ kind: 'redeploy', workerId, force: true })).result?.failure).toBeUndefined();
    expect(at.store.get(workerId)).toMatchObject({ imageVersion: '2.0.0', formerVmIds: [] });
    expect((await names()).vms).toEqual(['tidemark-worker-Default-01', 'web']);

    expect((await at.run({ kind: 'remove', workerId, force: false })).result?.failure).toBeUndefined();
    await eventually('nothing left', async () => (await names()).disks.length === 1);
    expect(await names()).toEqual({ vms: ['web'], disks: ['system'] });
    expect(await lab.leftovers()).toEqual([]);
  } finally {
    await guests.stop();
  }
}, 480_000);
