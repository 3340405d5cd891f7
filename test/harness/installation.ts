import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { freePort } from '../../common/net/free-port';
import { childrenOf, eventually, startNode } from './child';
import type { Child } from './child';
import { tellLogs } from './logs';

const root = path.resolve(__dirname, '..', '..', '..');
const launcher = path.join(root, 'dist', 'host-adapter', 'cli', 'tidemark.js');

/** What a command of `tidemark` printed. */
export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export type Role = 'plugin' | 'mover' | 'worker';

/** As server.json names them. */
const portNames = ['port', 'controlPort', 'enrolmentPort', 'pluginPort', 'pluginEnrolmentPort', 'moverPort', 'moverDataPort'] as const;

export interface InstallationOptions {
  /** False: the server alone; the other roles are started by {@link Installation.startRole}. Default true. */
  readonly allInOne?: boolean;
  /** Where the server listens; default 127.0.0.1. */
  readonly address?: string;
  /** Addresses besides, under which others find the server; its certificate has them. */
  readonly furtherAddresses?: readonly string[];
  /** Folder of the worker image; the installation's own unless told. */
  readonly workerImageFolder?: string;
  /** Configuration of the roles by environment, e.g. TIDEMARK_WORKER_VMS__LOST_MS. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** An installation in a folder, driven by the command line only. */
export class Installation {
  #child: Child | undefined;
  readonly #roles: Child[] = [];
  readonly #gateways = new Map<string, Child>();
  #workerAddresses: readonly string[] = [];

  constructor(
    readonly folder: string,
    private readonly options: InstallationOptions = {},
  ) {}

  get dataDir(): string {
    return path.join(this.folder, 'server');
  }

  /** From its next start on plug-in and mover listen everywhere, and tell worker VMs these addresses, the first one first. */
  announce(addresses: readonly string[]): void {
    this.#workerAddresses = addresses;
  }

  /** Starts the server with its children, waits until all are up, and logs in. */
  async start(): Promise<void> {
    fs.mkdirSync(this.folder, { recursive: true });
    // One that was killed still has its ports for a moment.
    await this.#child?.exited;
    const config = path.join(this.folder, 'server.json');
    const { port, controlPort, enrolmentPort, ...childrenPorts } = await this.#ports();
    fs.writeFileSync(
      config,
      JSON.stringify({
        listen: { address: this.options.address ?? '127.0.0.1', port, controlPort, enrolmentPort },
        addresses: [this.options.address ?? '127.0.0.1', 'localhost', ...(this.options.furtherAddresses ?? [])],
        children: {
          ...childrenPorts,
          ...(this.#workerAddresses.length === 0 ? {} : { listenAddress: '::', addresses: this.#workerAddresses }),
          ...(this.options.workerImageFolder === undefined ? {} : { workerImageFolder: this.options.workerImageFolder }),
        },
      }),
    );
    fs.rmSync(this.#endpointsFile(), { force: true });
    tellLogs(path.join(this.dataDir, 'log'));
    const child = startNode(
      launcher,
      ['server', ...((this.options.allInOne ?? true) ? ['--all-in-one'] : []), '--config', config, '--data-dir', this.dataDir],
      path.join(this.folder, 'server.log'),
      { env: { ...process.env, TZ: zoneAtNoon(), ...this.options.environment } },
    );
    this.#child = child;
    let ended = false;
    void child.exited.then(() => {
      ended = true;
    });
    await eventually('the server', 180_000, () => {
      if (ended) throw new Error(`the server ended; see ${path.join(this.folder, 'server.log')}`);
      return this.#endpoints() !== undefined || undefined;
    });
    await this.login();
  }

  async login(): Promise<void> {
    await eventually('login', 120_000, async () => {
      const result = await this.tryCli(
        ...['login', '--server', this.#endpoints()?.console ?? '', '--ca', path.join(this.dataDir, 'ca.pem')],
        ...['--password-file', path.join(this.dataDir, 'initial-admin-password')],
      );
      if (result.code !== 0) throw new Error(result.stderr);
      return true;
    });
  }

  /**
   * Starts a role as an administrator of another machine would: a token printed by the command line, a configuration file, a data folder of
   * its own. `endpoint` and `enrolmentEndpoint` are the server's, or for a worker its plug-in's.
   */
  async startRole(role: Role, settings: Readonly<Record<string, unknown>>): Promise<Child> {
    const folder = path.join(this.folder, role);
    fs.mkdirSync(folder, { recursive: true });
    const tokenFile = path.join(folder, 'token');
    const known = this.#endpoints();
    if (!known) throw new Error('the server is not up');
    const host = { endpoint: known.control, enrolmentEndpoint: known.enrolment, enrolmentTokenFile: tokenFile };
    const peer = role === 'worker' ? { plugin: { ...(settings['plugin'] as object), enrolmentTokenFile: tokenFile } } : { host };
    fs.writeFileSync(tokenFile, await this.cli(role, 'enrol'), { mode: 0o600 });
    const config = path.join(folder, `${role}.json`);
    fs.writeFileSync(config, JSON.stringify({ dataFolder: path.join(folder, 'data'), ...settings, ...peer }));
    return this.startRoleAgain(role);
  }

  /** Makes this machine a gateway once more, as an administrator would on a machine of its own: token, `mover enrol`, start. Answers its id. */
  async startGateway(name: string): Promise<string> {
    const folder = path.join(this.folder, name);
    fs.mkdirSync(folder, { recursive: true });
    const { token, moverId, control, enrolment } = await this.inviteGateway();
    const tokenFile = path.join(folder, 'given-token');
    fs.writeFileSync(tokenFile, token, { mode: 0o600 });
    const config = path.join(folder, 'mover.json');
    await this.cli(
      ...['mover', 'enrol', '--server', control, '--enrolment', enrolment, '--token-file', tokenFile, '--gateway'],
      ...['--address', '127.0.0.1', '--config', config, '--data-folder', path.join(folder, 'data')],
    );
    // On a machine of its own the usual ports are free.
    const ports = { listen: { address: '127.0.0.1', port: await freePort(), dataPort: await freePort() }, logLevel: 'info' };
    fs.writeFileSync(config, JSON.stringify({ ...(JSON.parse(fs.readFileSync(config, 'utf8')) as object), ...ports }));
    this.startGatewayAgain(name);
    await this.gatewayConnected(moverId);
    return moverId;
  }

  async gatewayConnected(moverId: string, timeoutMs = 120_000): Promise<void> {
    await eventually(`gateway ${moverId}`, timeoutMs, async () => {
      const { state, gateway } = await this.json<{ state: string; gateway: boolean }>('gateway', 'show', moverId);
      return (state === 'connected' && gateway) || undefined;
    });
  }

  /** What a machine elsewhere needs to become a gateway: a token, and where the server is. */
  async inviteGateway(): Promise<{ token: string; moverId: string; control: string; enrolment: string }> {
    const known = this.#endpoints();
    if (!known) throw new Error('the server is not up');
    return {
      ...(await this.json<{ token: string; moverId: string }>('gateway', 'enrol')),
      control: known.control,
      enrolment: known.enrolment,
    };
  }

  startGatewayAgain(name: string): void {
    const folder = path.join(this.folder, name);
    const child = startNode(launcher, ['mover', '--config', path.join(folder, 'mover.json')], path.join(folder, 'mover.log'));
    this.#roles.push(child);
    this.#gateways.set(name, child);
  }

  gatewayPid(name: string): number {
    const child = this.#gateways.get(name);
    if (!child) throw new Error(`no gateway ${name} is running`);
    return child.pid;
  }

  /** SIGKILL. */
  async killGateway(name: string): Promise<void> {
    const child = this.#gateways.get(name);
    if (!child) throw new Error(`no gateway ${name} is running`);
    this.#roles.splice(this.#roles.indexOf(child), 1);
    this.#gateways.delete(name);
    await child.kill();
  }

  /** Starts a role that ended, as it was configured: with the certificate that it has. */
  startRoleAgain(role: Role): Child {
    const folder = path.join(this.folder, role);
    const child = startNode(launcher, [role, '--config', path.join(folder, `${role}.json`)], path.join(folder, `${role}.log`));
    this.#roles.push(child);
    return child;
  }

  get pid(): number {
    if (!this.#child) throw new Error('the server is not running');
    return this.#child.pid;
  }

  /** Pid of a supervised child. */
  childPid(role: 'plugin' | 'mover' | 'worker'): number {
    const [pid] = childrenOf(this.pid, path.join('dist', role, 'main.js'));
    if (pid === undefined) throw new Error(`no ${role} is running`);
    return pid;
  }

  /** SIGKILL of one process; the supervisor starts children again. */
  kill(role: 'server' | 'plugin' | 'mover' | 'worker'): void {
    process.kill(role === 'server' ? this.pid : this.childPid(role), 'SIGKILL');
  }

  /** SIGKILL of a server whose other roles run on. */
  async loseServer(): Promise<void> {
    await this.#child?.kill();
    this.#child = undefined;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#roles.splice(0).map((role) => role.stop()));
    await this.#child?.stop(90_000);
    this.#child = undefined;
  }

  /** Runs a command; throws with its output when it fails. */
  async cli(...args: string[]): Promise<string> {
    const result = await this.tryCli(...args);
    if (result.code !== 0 && result.code !== 3)
      throw new Error(`tidemark ${args.join(' ')}: exit code ${result.code}\n${result.stdout}${result.stderr}`);
    return result.stdout;
  }

  /** Runs a command with --json. */
  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.cli(...args, '--json')) as T;
  }

  tryCli(...args: string[]): Promise<CliResult> {
    return new Promise((resolve) => {
      execFile(process.execPath, [launcher, ...args], { env: this.environment(), maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
        const code = error ? (typeof error.code === 'number' ? error.code : 1) : 0;
        resolve({ code, stdout, stderr });
      });
    });
  }

  /** Runs a command on the caller's terminal, for its bars; standard output is kept. */
  onTerminal(...args: string[]): Promise<CliResult> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [launcher, ...args], { env: this.environment(), stdio: ['ignore', 'pipe', 'inherit'] });
      let stdout = '';
      child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
      child.once('error', reject);
      child.once('exit', (code) => resolve({ code: code ?? 1, stdout, stderr: '' }));
    });
  }

  private environment(): NodeJS.ProcessEnv {
    return { ...process.env, TIDEMARK_CLI_CONFIG: path.join(this.folder, 'cli.json') };
  }

  /** Free ones at the first start; the same ones again after it, so that whoever knows them finds the server and its children. */
  async #ports(): Promise<Record<(typeof portNames)[number], number>> {
    const file = path.join(this.folder, 'ports.json');
    if (!fs.existsSync(file)) {
      const ports = await Promise.all(portNames.map(async (name) => [name, await freePort()]));
      fs.writeFileSync(file, JSON.stringify(Object.fromEntries(ports)));
    }
    return JSON.parse(fs.readFileSync(file, 'utf8')) as Record<(typeof portNames)[number], number>;
  }

  #endpointsFile(): string {
    return path.join(this.dataDir, 'endpoints.json');
  }

  #endpoints(): { console: string; control: string; enrolment: string } | undefined {
    try {
      return JSON.parse(fs.readFileSync(this.#endpointsFile(), 'utf8')) as { console: string; control: string; enrolment: string };
    } catch {
      return undefined;
    }
  }
}

/** A time zone where it is about noon: at half past two and four at night a server begins maintenance by itself, which tests do not expect. */
function zoneAtNoon(): string {
  // POSIX counts from west to east: in UTC-3 it is three hours later than in UTC.
  const ahead = 12 - new Date().getUTCHours();
  return `UTC${ahead < 0 ? '+' : '-'}${Math.abs(ahead)}`;
}
