/**
 * One machine: a plug-in, a mover and a worker beside the server, as supervised children. Each enrols like a stranger, with a one-time token;
 * nothing here reaches into them. The worker is started once the plug-in said where it listens.
 */
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { packageRoot } from '../../common/lifecycle/process-info';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { LogLevel, Logger } from '../../common/log/logger';
import { durableWrite } from '../../common/tls/durable-write';
import { splitEndpoint } from '../../common/tls/enrolment';
import { SupervisedChild } from './supervised-child';

export type ChildRole = 'plugin' | 'mover' | 'worker';

export interface AllInOneOptions {
  readonly dataFolder: string;
  /** Listen address of the children. */
  readonly listenAddress: string;
  /** Names and addresses of this machine. */
  readonly addresses: readonly string[];
  /** Those by which worker VMs reach it; may be empty. */
  readonly workerAddresses: readonly string[];
  /** Folder of the worker image; the plug-in's default when absent. */
  readonly workerImageFolder: string | undefined;
  /** 0 picks a free one at the first start; it is kept from then on. */
  readonly ports: { readonly plugin: number; readonly pluginEnrolment: number; readonly mover: number; readonly moverData: number };
  readonly logLevel: LogLevel;
  /** Where the server listens, known once it does. */
  serverEndpoints(): { readonly control: string; readonly enrolment: string };
  createToken(role: ChildRole): Promise<string>;
  readonly logger: Logger;
}

type Ports = Record<string, number>;

export class AllInOne implements Service {
  readonly name = 'children';
  readonly #children: Readonly<Record<ChildRole, SupervisedChild>>;
  #ports: Ports;
  #stopping = false;

  constructor(private readonly options: AllInOneOptions) {
    this.#ports = this.#readPorts();
    const child = (role: ChildRole, settings: () => Promise<object>) =>
      new SupervisedChild({
        name: role,
        script: path.join(packageRoot, 'dist', role, 'main.js'),
        prepare: () => this.#prepare(role, settings),
        logFile: path.join(options.dataFolder, 'log', `${role}.log`),
        logger: options.logger,
      });
    this.#children = {
      plugin: child('plugin', async () => ({
        listen: { address: options.listenAddress, port: this.#port('plugin'), enrolmentPort: this.#port('pluginEnrolment') },
        addresses: this.#addresses,
        ...(options.workerImageFolder === undefined ? {} : { workerImage: { folder: options.workerImageFolder } }),
        host: this.#host(),
      })),
      mover: child('mover', async () => ({
        listen: { address: options.listenAddress, port: this.#port('mover'), dataPort: this.#port('moverData') },
        addresses: this.#addresses,
        advertise: this.#moverAdvertisement(),
        host: this.#host(),
      })),
      worker: child('worker', async () => {
        const { workerEndpoint, enrolmentEndpoint } = await this.#children.plugin.ready();
        return { plugin: { endpoint: workerEndpoint, enrolmentEndpoint } };
      }),
    };
  }

  async start(): Promise<void> {
    this.#stopping = false;
    await Promise.all([this.#children.plugin.start(), this.#children.mover.start()]);
    void this.#startWorker();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    // The worker first: it tells the plug-in that its tasks end.
    await this.#children.worker.stop();
    await Promise.all([this.#children.plugin.stop(), this.#children.mover.stop()]);
  }

  /** For health checks and `endpoints.json`. */
  states(): Readonly<Record<ChildRole, SupervisedChild['state']>> {
    const { plugin, mover, worker } = this.#children;
    return { plugin: plugin.state, mover: mover.state, worker: worker.state };
  }

  async #startWorker(): Promise<void> {
    const [plugin, mover] = await Promise.all([this.#children.plugin.ready(), this.#children.mover.ready()]);
    // The children keep their ports over restarts: whoever knows them finds them again. Without, the worker is of use all the same.
    this.#keepPorts({
      plugin: plugin['endpoint'],
      pluginEnrolment: plugin['enrolmentEndpoint'],
      mover: mover['controlEndpoint'],
      moverData: (mover['dataEndpoints'] as unknown[] | undefined)?.[0],
    });
    if (!this.#stopping) await this.#children.worker.start();
  }

  /** Writes the child's configuration and, while it has no certificate, a fresh token. */
  async #prepare(role: ChildRole, settings: () => Promise<object>): Promise<string[]> {
    const { options } = this;
    const dataFolder = path.join(options.dataFolder, role);
    const config = path.join(dataFolder, 'config.json');
    const tokenFile = path.join(dataFolder, 'enrolment-token');
    const specific = (await settings()) as Record<string, object>;
    const enrolled = fs.existsSync(path.join(dataFolder, 'identity', 'identity.json'));
    if (enrolled) fs.rmSync(tokenFile, { force: true });
    else {
      durableWrite(tokenFile, `${await options.createToken(role)}\n`, 0o600);
      const at = role === 'worker' ? 'plugin' : 'host';
      specific[at] = { ...specific[at], enrolmentTokenFile: tokenFile };
    }
    durableWrite(config, `${JSON.stringify({ dataFolder, logLevel: options.logLevel, ...specific }, null, 2)}\n`, 0o600);
    return ['--config', config, '--end-with-parent'];
  }

  /** The first one is announced. */
  get #addresses(): string[] {
    return [...new Set([...this.options.workerAddresses, ...this.options.addresses])];
  }

  /** Workers in different networks may reach the mover by different addresses; before its port is known it announces the first by itself. */
  #moverAdvertisement(): object {
    const port = this.#port('moverData');
    const { workerAddresses } = this.options;
    if (port === 0 || workerAddresses.length === 0) return {};
    return { dataEndpoints: workerAddresses.map((address) => `${net.isIPv6(address) ? `[${address}]` : address}:${port}`) };
  }

  #host(): object {
    const { control, enrolment } = this.options.serverEndpoints();
    return { endpoint: control, enrolmentEndpoint: enrolment };
  }

  #port(name: keyof AllInOneOptions['ports']): number {
    return this.options.ports[name] || (this.#ports[name] ?? 0);
  }

  #portFile(): string {
    return path.join(this.options.dataFolder, 'ports.json');
  }

  #readPorts(): Ports {
    try {
      return JSON.parse(fs.readFileSync(this.#portFile(), 'utf8')) as Ports;
    } catch {
      // First start, or damaged: free ports are picked again.
      return {};
    }
  }

  #keepPorts(endpoints: Record<string, unknown>): void {
    const ports: Ports = {};
    for (const [name, endpoint] of Object.entries(endpoints)) {
      if (typeof endpoint === 'string') ports[name] = splitEndpoint(endpoint).port;
    }
    this.#ports = ports;
    try {
      durableWrite(this.#portFile(), JSON.stringify(ports), 0o600);
    } catch (error) {
      this.options.logger.error('the ports of the children could not be kept', { error });
    }
  }
}
