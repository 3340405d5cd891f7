import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import path from 'node:path';

/** Folder `dist`. */
const built = path.resolve(__dirname, '..', '..');

/** A built program of ours as a child; its standard error is kept for messages. */
export interface RunningProgram {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly errors: () => string;
  /** Ends it and waits. */
  end(signal?: NodeJS.Signals): Promise<void>;
}

export function startProgram(script: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): RunningProgram {
  const child = spawn(process.execPath, [path.join(built, script), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });
  let output = '';
  let errors = '';
  child.stdout.on('data', (part: Buffer) => {
    output = (output + part.toString()).slice(-100_000);
  });
  child.stderr.on('data', (part: Buffer) => {
    errors = (errors + part.toString()).slice(-200_000);
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return {
    child,
    output: () => output,
    errors: () => errors,
    end: async (signal = 'SIGTERM') => {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      const killer = setTimeout(() => child.kill('SIGKILL'), 120_000);
      await exited;
      clearTimeout(killer);
    },
  };
}
