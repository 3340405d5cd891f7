import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { LabAccess } from '../lab';
import type { SeedPlan } from '../seed/seed-plan';

/** A lab of its own in a child process, for tests: temporary data directory, free ports, fast clock. */
export interface LabProcess extends AsyncDisposable {
  readonly access: LabAccess & { readonly password: string; readonly pid: number };
  readonly readyFile: string;
  readonly directory: string;
  readonly child: ChildProcess;
}

export const repositoryRoot = resolve(__dirname, '../../..');

const START_TIMEOUT_MS = 240_000;
const STOP_TIMEOUT_MS = 60_000;

export async function startLabProcess(
  plan: Partial<SeedPlan>,
  options: { clockFactor: number; directory?: string; args?: readonly string[] },
): Promise<LabProcess> {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'lab-'));
  const seedFile = join(directory, 'seed.json');
  const readyFile = join(directory, 'ready.json');
  rmSync(readyFile, { force: true });
  writeFileSync(seedFile, JSON.stringify(plan));
  const args = [
    '--data-dir',
    join(directory, 'data'),
    '--clock-factor',
    String(options.clockFactor),
    '--seed-file',
    seedFile,
    '--ready-file',
    readyFile,
    ...(options.args ?? []),
  ];
  const child = spawn(process.execPath, [join(__dirname, '../main.js'), ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-8_000);
  });
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!existsSync(readyFile)) {
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`the lab did not start:\n${errors}`);
    }
    await new Promise((wake) => setTimeout(wake, 50));
  }
  return {
    access: JSON.parse(readFileSync(readyFile, 'utf8')) as LabProcess['access'],
    readyFile,
    directory,
    child,
    [Symbol.asyncDispose]: async () => {
      await endProcess(child, 'SIGTERM');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Resolves when the process is gone; one that does not obey is killed. */
export async function endProcess(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) {
    return;
  }
  const gone = new Promise<void>((resolveGone) => {
    child.once('exit', () => {
      resolveGone();
    });
  });
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await gone;
  clearTimeout(timer);
}
