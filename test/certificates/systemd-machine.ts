import { execFile, execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { childrenOf, eventually } from '../harness/child';
import { debianTree } from './debian-tree';

const root = path.resolve(__dirname, '..', '..', '..');
/** Where the installation lies in the machine; read-only. */
const installation = '/usr/lib/tidemark/installation';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What `systemctl show` tells of a unit. */
export interface UnitState {
  readonly pid: string;
  readonly state: string;
  readonly result: string;
  /** Another one for each start. */
  readonly invocation: string;
  /** Microseconds of the machine's clock. */
  readonly startedAt: number;
}

/** Why no machine can be started here; undefined when one can. */
export function whyNoMachine(): string | undefined {
  if (process.getuid?.() !== 0) return 'a machine with systemd needs root (systemd-nspawn)';
  try {
    execFileSync('unshare', ['--mount', '--pid', '--fork', '--net', 'true'], { stdio: 'ignore' });
  } catch {
    return 'namespaces cannot be made here, so systemd-nspawn cannot run';
  }
  return undefined;
}

/**
 * A Debian machine that was really booted: systemd is PID 1 in a container with its own network, the units of scripts/systemd are installed where a
 * package puts them, and the programs are those of this checkout.
 */
export class SystemdMachine implements AsyncDisposable {
  private constructor(
    /** Its file system as this machine sees it. */
    readonly folder: string,
    private readonly nspawn: ChildProcess,
    private readonly leader: number,
  ) {}

  static async boot(): Promise<SystemdMachine> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-machine-'));
    const log = path.join(os.tmpdir(), `${path.basename(folder)}.log`);
    execFileSync('cp', ['-a', `${debianTree(path.join(root, '.cache'))}/.`, folder]);
    install(folder);
    const output = fs.openSync(log, 'a');
    const name = `tidemark-${randomBytes(4).toString('hex')}`;
    const place = ['--directory', folder, '--machine', name, '--register=no', '--keep-unit', '--private-network'];
    const nspawn = spawn('systemd-nspawn', ['--quiet', '--boot', '--console=pipe', ...place, ...binds()], {
      stdio: ['ignore', output, output],
    });
    fs.closeSync(output);
    const exited = new Promise<never>((_resolve, reject) => {
      nspawn.once('error', reject);
      nspawn.once('exit', (code) => reject(new Error(`systemd-nspawn ended with ${code}: ${fs.readFileSync(log, 'utf8')}`)));
    });
    // Awaited only until the machine is up.
    exited.catch(() => undefined);
    const leader = await Promise.race([
      exited,
      eventually('PID 1', 240_000, () => childrenOf(nspawn.pid ?? 0, 'lib/systemd/systemd')[0], 50),
    ]);
    const machine = new SystemdMachine(folder, nspawn, leader);
    await eventually(
      'the end of the boot',
      240_000,
      async () => (await machine.run('systemctl', 'is-system-running')).stdout === 'running\n',
    );
    return machine;
  }

  /** Where a file of the machine lies on this one. */
  path(file: string): string {
    return path.join(this.folder, file);
  }

  write(file: string, content: string): void {
    fs.mkdirSync(path.dirname(this.path(file)), { recursive: true });
    fs.writeFileSync(this.path(file), content);
  }

  /** Puts another file in the place of one, as tools do that never leave half a file; owner and mode stay. */
  replace(file: string, content: string): void {
    const whole = `${this.path(file)}.new`;
    this.write(`${file}.new`, content);
    const before = fs.statSync(this.path(file), { throwIfNoEntry: false });
    if (before) {
      fs.chownSync(whole, before.uid, before.gid);
      fs.chmodSync(whole, before.mode);
    }
    fs.renameSync(whole, this.path(file));
  }

  /** Runs a command in the machine, as its root. */
  run(...command: string[]): Promise<Ran> {
    const words = ['--target', String(this.leader), '--mount', '--uts', '--ipc', '--net', '--pid', '--', ...command];
    return new Promise((resolve) => {
      const env = { PATH: '/usr/sbin:/usr/bin', HOME: '/root', LANG: 'C.UTF-8' };
      execFile('nsenter', words, { env, maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
        resolve({ code: error ? (typeof error.code === 'number' ? error.code : -1) : 0, stdout, stderr });
      });
    });
  }

  /** Runs a command that must succeed; its standard output. */
  async must(...command: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...command);
    if (code !== 0) throw new Error(`${command.join(' ')}: exit code ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  async unit(name: string): Promise<UnitState> {
    const properties = 'MainPID,ActiveState,Result,InvocationID,ExecMainStartTimestampMonotonic';
    const text = await this.must('systemctl', 'show', '--property', properties, name);
    const found = new Map(text.split('\n').map((line) => [line.split('=', 1)[0], line.slice(line.indexOf('=') + 1)]));
    return {
      pid: found.get('MainPID') ?? '',
      state: found.get('ActiveState') ?? '',
      result: found.get('Result') ?? '',
      invocation: found.get('InvocationID') ?? '',
      startedAt: Number(found.get('ExecMainStartTimestampMonotonic')),
    };
  }

  /** What a unit wrote to the journal. */
  journal(unit: string): Promise<string> {
    return this.must('journalctl', '--no-pager', '--output=cat', `--unit=${unit}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = new Promise((resolve) => (this.nspawn.exitCode === null ? this.nspawn.once('exit', resolve) : resolve(null)));
    await this.run('systemctl', 'poweroff');
    const timer = setTimeout(() => this.nspawn.kill('SIGKILL'), 120_000);
    await exited;
    clearTimeout(timer);
    fs.rmSync(this.folder, { recursive: true, force: true });
    fs.rmSync(`${this.folder}.log`, { force: true });
  }
}

/** As a package does it. */
function install(folder: string): void {
  const into = (file: string) => {
    fs.mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
    return path.join(folder, file);
  };
  const units = path.join(root, 'scripts', 'systemd');
  for (const name of fs.readdirSync(units)) {
    const place = name.endsWith('.sysusers')
      ? `/usr/lib/sysusers.d/${name.replace('.sysusers', '.conf')}`
      : `/usr/lib/systemd/system/${name}`;
    fs.copyFileSync(path.join(units, name), into(place));
  }
  fs.symlinkSync(`${installation}/scripts/tidemark`, into('/usr/bin/tidemark'));
  fs.symlinkSync(`${installation}/scripts/certificate`, into('/usr/lib/tidemark/certificate'));
  fs.mkdirSync(path.join(folder, installation), { recursive: true });
}

/** The checkout, and its packages where they really are. */
function binds(): string[] {
  const packages = fs.realpathSync(path.join(root, 'node_modules'));
  const elsewhere = packages === path.join(root, 'node_modules') ? [] : [`--bind-ro=${packages}:${packages}`];
  return [`--bind-ro=${root}:${installation}`, ...elsewhere];
}
