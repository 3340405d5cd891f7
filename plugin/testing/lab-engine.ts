import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { request } from 'undici';
import { Secret } from '../../common/log/redact';
import { Engine } from '../engine/engine';
import { inspectEngine } from '../engine/engine-trust';
import { startProgram } from './child-process';
import { eventually } from './eventually';
import type { FakeEngine } from './fake-engine';
import { quietLogger } from './quiet-logger';

/** The lab as a child, and a client of its engine. */
export interface LabEngine extends AsyncDisposable {
  readonly engine: Engine;
  /** A call of the lab's control port. */
  control(route: string, body: object): Promise<void>;
  /** What is in the engine that no backup or restore may leave there. */
  leftovers(): Promise<string[]>;
}

/** Starts a lab of its own with the VMs of a seed plan. Its clock runs `clockFactor` times as fast as the wall. */
export async function startLabEngine(plan: object, clockFactor = 40): Promise<LabEngine> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-lab-'));
  const [readyFile, seedFile] = [path.join(folder, 'ready.json'), path.join(folder, 'seed.json')];
  fs.writeFileSync(seedFile, JSON.stringify(plan));
  const places = ['--data-dir', path.join(folder, 'lab'), '--seed-file', seedFile, '--ready-file', readyFile];
  const lab = startProgram('lab/main.js', [...places, '--clock-factor', String(clockFactor)]);
  await eventually('the lab is up', () => fs.existsSync(readyFile) || lab.child.exitCode !== null);
  if (!fs.existsSync(readyFile)) throw new Error(`the lab did not start:\n${lab.errors()}`);
  const access = JSON.parse(fs.readFileSync(readyFile, 'utf8')) as {
    engineUrl: string;
    user: string;
    password: string;
    controlUrl: string;
  };
  const login = { username: access.user, password: new Secret(access.password) };
  const engine = Engine.connect({ ...(await inspectEngine(access.engineUrl)), ...login }, quietLogger().logger);
  await eventually('the hosts are up', async () => (await engine.hosts.list()).every((host) => host.status === 'up'));
  return {
    engine,
    control: async (route, body) => {
      const answer = await request(`${access.controlUrl.replace(/\/$/, '')}${route}`, {
        method: 'POST',
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/json' },
      });
      if (answer.statusCode !== 200) throw new Error(`${route}: ${answer.statusCode} ${await answer.body.text()}`);
      await answer.body.dump();
    },
    leftovers: () => leftoversOf(engine),
    [Symbol.asyncDispose]: async () => {
      await engine.close();
      await lab.end();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The lab's engine where a bench expects the one in memory. */
export function asFake(engine: Engine): FakeEngine {
  return { asEngine: () => engine } as unknown as FakeEngine;
}

async function leftoversOf(engine: Engine): Promise<string[]> {
  const left = (await engine.transfers.list()).flatMap((t) =>
    ['finished_success', 'finished_failure'].includes(t.phase) ? [] : [`transfer ${t.phase}`],
  );
  for await (const page of engine.vms.pages({ with: ['snapshots'] })) {
    for (const vm of page) {
      for (const b of await engine.backups.list(vm.id))
        if (!['succeeded', 'failed'].includes(b.phase)) left.push(`backup ${vm.name} ${b.phase}`);
      for (const s of vm.snapshots ?? []) if (s.type !== 'active') left.push(`snapshot ${vm.name} ${s.description}`);
      for (const a of await engine.diskAttachments.list(vm.id)) if (a.snapshotId !== undefined) left.push(`snapshot's disk on ${vm.name}`);
    }
  }
  for await (const page of engine.disks.pages())
    for (const disk of page) if (disk.status !== 'ok') left.push(`disk ${disk.name} ${disk.status}`);
  return left;
}
