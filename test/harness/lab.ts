import fs from 'node:fs';
import path from 'node:path';
import { request } from 'undici';
import { freePort } from '../../common/net/free-port';
import { childrenOf, eventually, startNode } from './child';
import type { Child } from './child';

const script = path.resolve(__dirname, '..', '..', 'lab', 'main.js');

/** What the lab writes when it is up. */
export interface LabAccess {
  readonly engineUrl: string;
  readonly apiUrl: string;
  readonly caFile: string;
  readonly user: string;
  readonly password: string;
  readonly passwordFile: string;
  readonly controlUrl: string;
  readonly dataDir: string;
  /** Bridges and namespaces, when the lab has them. */
  readonly network?: {
    readonly serverAddress: string;
    readonly serverAddressIpv6: string;
    readonly clusters: Readonly<Record<string, { readonly namespace: string; readonly serverAddress: string }>>;
  };
}

export interface LabOptions {
  readonly folder: string;
  /** Seed plan of the lab, see lab/seed/seed-plan.ts. */
  readonly plan: object;
  readonly clockFactor?: number;
  /** What runs in worker VMs: the program as a process, or the image as a guest (needs root). Nothing, unless told. */
  readonly workerVms?: 'process' | 'guest';
}

/** The oVirt lab as a child process. */
export class Lab {
  #child: Child | undefined;

  /** Pids of its image daemons. */
  get imageDaemons(): number[] {
    return childrenOf(this.#child?.pid ?? 0, 'ovirt-imageio');
  }

  #access: LabAccess | undefined;

  constructor(private readonly options: LabOptions) {}

  get access(): LabAccess {
    if (!this.#access) throw new Error('the lab is not up');
    return this.#access;
  }

  /** Starts it, or starts it again on the same data and ports; `renewCa` gives it another CA, as an engine that was set up anew has. */
  async start(renewCa = false): Promise<void> {
    const { folder, plan, clockFactor, workerVms } = this.options;
    fs.mkdirSync(folder, { recursive: true });
    const seedFile = path.join(folder, 'seed.json');
    const readyFile = path.join(folder, 'ready.json');
    fs.writeFileSync(seedFile, JSON.stringify(plan));
    fs.rmSync(readyFile, { force: true });
    const port = this.#access ? new URL(this.#access.engineUrl).port : String(await freePort());
    const controlPort = this.#access ? new URL(this.#access.controlUrl).port : String(await freePort());
    const child = startNode(
      script,
      [
        ...['--data-dir', path.join(folder, 'data'), '--seed-file', seedFile, '--ready-file', readyFile],
        ...['--port', port, '--control-port', controlPort, '--clock-factor', String(clockFactor ?? 10), '--verbose'],
        ...(workerVms ? ['--worker-vms', workerVms] : []),
        ...(renewCa ? ['--renew-ca'] : []),
      ],
      path.join(folder, 'lab.log'),
    );
    this.#child = child;
    let ended = false;
    void child.exited.then(() => {
      ended = true;
    });
    this.#access = await eventually('the lab', 240_000, () => {
      if (ended) throw new Error(`the lab ended; see ${path.join(folder, 'lab.log')}`);
      return fs.existsSync(readyFile) ? (JSON.parse(fs.readFileSync(readyFile, 'utf8')) as LabAccess) : undefined;
    });
  }

  async stop(): Promise<void> {
    await this.#child?.stop(120_000);
    this.#child = undefined;
  }

  /** SIGKILL of the engine's process; qemu and imageio go on. */
  async kill(): Promise<void> {
    await this.#child?.kill();
    this.#child = undefined;
  }

  /** The control endpoint: faults, guests, looks behind the API. */
  async control<T = unknown>(method: 'GET' | 'POST' | 'DELETE', route: string, body?: object): Promise<T> {
    const answer = await request(`${this.access.controlUrl.replace(/\/$/, '')}${route}`, {
      method,
      headersTimeout: 300_000,
      bodyTimeout: 300_000,
      ...(body ? { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } } : {}),
    });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new Error(`control ${method} ${route}: ${answer.statusCode} ${text}`);
    return JSON.parse(text) as T;
  }

  entities<T = Record<string, unknown>>(collection: string): Promise<T[]> {
    return this.control<T[]>('GET', `/entities/${collection}`);
  }

  /** Starts a VM through the engine's API, as an administrator would, and waits until it is up. */
  async startVm(name: string): Promise<void> {
    const [vm] = (await this.api<{ vm?: { id: string }[] }>('GET', `/vms?search=name%3D${name}`)).vm ?? [];
    if (!vm) throw new Error(`no VM ${name}`);
    await this.api('POST', `/vms/${vm.id}/start`, {});
    await eventually(
      `${name} up`,
      180_000,
      async () => (await this.api<{ status: string }>('GET', `/vms/${vm.id}`)).status === 'up' || undefined,
    );
  }

  /** A request to the engine's API as its administrator. */
  async api<T = unknown>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', route: string, body?: object): Promise<T> {
    const { access } = this;
    const { Agent } = await import('undici');
    const dispatcher = new Agent({ connect: { ca: fs.readFileSync(access.caFile) } });
    try {
      const answer = await request(`${access.apiUrl.replace(/\/$/, '')}${route}`, {
        method,
        dispatcher,
        headersTimeout: 300_000,
        headers: {
          accept: 'application/json',
          authorization: `Basic ${Buffer.from(`${access.user}:${access.password}`).toString('base64')}`,
          ...(body ? { 'content-type': 'application/json' } : {}),
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      const text = await answer.body.text();
      if (answer.statusCode >= 300) throw new Error(`${method} ${route}: ${answer.statusCode} ${text}`);
      return (text === '' ? {} : JSON.parse(text)) as T;
    } finally {
      await dispatcher.close();
    }
  }
}
