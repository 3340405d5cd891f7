import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { enterNamespace, NetworkError, type Namespace } from './commands';

export interface BackgroundServiceOptions {
  readonly program: 'dnsmasq' | 'chronyd';
  /** Of its files. */
  readonly name: string;
  readonly folder: string;
  readonly namespace: Namespace;
}

const startTimeoutMs = 120_000;

/**
 * A daemon of the networks that is told what to do by a file. It outlives a lab that is killed, as the guests do, and is known by the name of
 * that file in its command line: the next lab over the same folder ends it and starts its own.
 */
export abstract class BackgroundService {
  constructor(private readonly background: BackgroundServiceOptions) {}

  /** Arguments with which it stays in the foreground. */
  protected abstract command(configurationFile: string): readonly string[];

  /** It writes the file when it serves. */
  protected abstract configuration(pidFile: string): string;

  async start(): Promise<void> {
    const { program, namespace } = this.background;
    await this.stop();
    writeFileSync(this.#file('conf'), this.configuration(this.#file('pid')));
    const log = openSync(this.#file('log'), 'w');
    const [file = '', ...args] = [...enterNamespace(namespace), program, ...this.command(this.#file('conf'))];
    const child = spawn(file, args, { stdio: ['ignore', log, log] });
    closeSync(log);
    child.unref();
    let ended = false;
    child.once('exit', () => (ended = true));
    child.once('error', () => (ended = true));
    const deadline = Date.now() + startTimeoutMs;
    while (!existsSync(this.#file('pid'))) {
      if (ended || Date.now() > deadline)
        throw new NetworkError(`${program} did not start: ${readFileSync(this.#file('log'), 'utf8').trim() || 'it says nothing'}`);
      await delay(20);
    }
  }

  async stop(): Promise<void> {
    const signalled = signalServices(this.#file('conf'), 'SIGTERM');
    while (signalled.some(isAlive)) await delay(20);
    rmSync(this.#file('pid'), { force: true });
  }

  #file(kind: 'conf' | 'log' | 'pid'): string {
    const { folder, name } = this.background;
    return join(folder, `${name}.${kind}`);
  }
}

/** Signals the services whose file of configuration has a path that begins with this; gives their process ids. */
export function signalServices(path: string, signal: NodeJS.Signals): number[] {
  const pids = serving(path);
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // Gone by itself.
    }
  }
  return pids;
}

/** A process that ends loses its command line first, and holds its sockets until it is a zombie. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

function serving(path: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      if (!Number.isInteger(pid)) return false;
      try {
        const [program = '', ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return /^(dnsmasq|chronyd)$/.test(program) && args.some((argument) => argument.replace('--conf-file=', '').startsWith(path));
      } catch {
        return false; // ended while we looked
      }
    });
}
