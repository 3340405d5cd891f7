import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { captureOf } from './captures';
import { imageDifference } from './compare';
import { eventually } from './child';
import { Installation } from './installation';
import type { InstallationOptions } from './installation';
import { Lab } from './lab';
import { buildWorkerImage, emptyWorkerImage } from './worker-image';

/** The parts of a session, as `--json` prints it, that tests look at. */
export interface Session {
  readonly id: string;
  readonly state: string;
  readonly endedAt: string | null;
  readonly tasks: readonly Task[];
}

export interface Task {
  readonly vmName: string;
  readonly state: string;
  readonly sessionId: string;
  readonly pointId: string | null;
  readonly createdId: string | null;
  readonly waitingReason: string | null;
  readonly attempt: number;
  readonly path: {
    readonly moverId: string;
    readonly moverName: string;
    readonly reason: string;
    readonly message: string;
    readonly before: readonly string[];
  } | null;
  readonly failure: { readonly code: string; readonly message: string } | null;
  readonly notes: readonly { readonly code: string; readonly severity: string; readonly message: string }[];
  readonly disks: readonly {
    readonly diskId: string;
    readonly name: string;
    readonly mode: string;
    readonly reason: string;
    readonly path: string;
    readonly transport: string | null;
    readonly workerName: string | null;
    readonly workerHop: string | null;
    readonly counters: {
      readonly readBytes: number;
      readonly transferredBytes: number;
      readonly storedBytes: number;
      readonly plannedBytes: number;
    };
  }[];
}

/** What a self-test says of a machine that has much to do, and of a guest that the lab gives less memory than an engine would. */
const ofTheMachine: readonly string[] = ['THROUGHPUT_LOW', 'MEMORY_LOW'];

/** How a session ended; `success` also when all that it warns of is how slow or small this machine is, which is no test's business. */
export function endOf({ state, tasks }: Session): string {
  const warnings = tasks.flatMap(({ notes }) => notes).filter(({ severity }) => severity === 'warning');
  const isMachineOnly = warnings.length > 0 && warnings.every(({ code }) => ofTheMachine.includes(code));
  return state === 'warning' && isMachineOnly ? 'success' : state;
}

export interface SiteOptions {
  readonly plan: object;
  readonly clockFactor?: number;
  /** Server settings to change, as `tidemark config set` takes them. */
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly installation?: InstallationOptions;
  /** Worker VMs that work: see the lab's option. Without it none is deployed. */
  readonly workerVms?: 'process' | 'guest';
  /** Starts what the installation does not start itself, once the server is up. */
  readonly roles?: (installation: Installation) => Promise<void>;
}

/** A lab and an installation (all-in-one unless told) that backs it up, ready for jobs. */
export class Site implements AsyncDisposable {
  readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-site-'));
  readonly lab: Lab;
  readonly installation: Installation;

  private constructor(private readonly options: SiteOptions) {
    const { plan, clockFactor = 20, workerVms } = options;
    this.lab = new Lab({ folder: path.join(this.folder, 'lab'), plan, clockFactor, ...(workerVms ? { workerVms } : {}) });
    this.installation = new Installation(path.join(this.folder, 'site'), {
      ...options.installation,
      // A process reads no image: a small one stands for it.
      ...(workerVms === 'process' ? { workerImageFolder: emptyWorkerImage(this.workerImages) } : {}),
    });
  }

  /** Both up, plug-in enabled, platform `lab` connected, repository `main` made, captures on. */
  static async start(options: SiteOptions): Promise<Site> {
    const site = new Site(options);
    try {
      if (options.workerVms === 'guest') buildWorkerImage();
      await site.#startBoth();
      await options.roles?.(site.installation);
      fs.mkdirSync(site.captures);
      await site.lab.control('POST', '/captures', { folder: site.captures });
      await site.enable();
      await site.addPlatform('lab');
      if (options.workerVms === undefined) await site.installation.cli('worker', 'policy', '--deploy-automatically', 'off');
      await site.installation.cli('repository', 'add', 'main', '--location', site.repository, '--no-encryption');
      for (const [name, value] of Object.entries(options.settings ?? {}))
        await site.installation.cli('config', 'set', name, JSON.stringify(value));
      return site;
    } catch (error) {
      await site[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** On a network the server side has addresses that are known when the lab is up. */
  async #startBoth(): Promise<void> {
    const { workerVms, plan } = this.options;
    const hasNetwork = workerVms === 'guest' || 'networks' in plan;
    if (!hasNetwork) return void (await Promise.all([this.lab.start(), this.installation.start()]));
    await this.lab.start();
    const { network, engineUrl } = this.lab.access;
    if (!network) throw new Error('the lab has no network');
    const { serverAddress, serverAddressIpv6, clusters } = network;
    // The engine is announced under the address that all clusters understand, if there is one: so are we.
    const own =
      new URL(engineUrl).hostname === `[${serverAddressIpv6}]` ? [serverAddressIpv6, serverAddress] : [serverAddress, serverAddressIpv6];
    this.installation.announce([...new Set([...own, ...Object.values(clusters).map((cluster) => cluster.serverAddress)])]);
    await this.installation.start();
  }

  /** Folder of the images that a site with processes as worker VMs deploys. */
  get workerImages(): string {
    return path.join(this.folder, 'worker-image');
  }

  get captures(): string {
    return path.join(this.folder, 'captures');
  }

  get repository(): string {
    return path.join(this.folder, 'repository');
  }

  get caFingerprint(): string {
    return new X509Certificate(fs.readFileSync(this.lab.access.caFile)).fingerprint256;
  }

  async enable(): Promise<void> {
    await eventually('the plug-in', 120_000, async () => {
      const { items } = await this.installation.json<{ items: { id: string; state: string }[] }>('plugin', 'list');
      if (items[0]?.state !== 'connected') return undefined;
      await this.installation.cli('plugin', 'enable', items[0].id);
      return true;
    });
  }

  async addPlatform(name: string): Promise<void> {
    const { engineUrl, user, passwordFile } = this.lab.access;
    await eventually('the platform', 120_000, async () => {
      await this.installation.cli(
        ...['platform', 'add', name, '--url', engineUrl, '--user', user],
        ...['--password-file', passwordFile, '--fingerprint', this.caFingerprint],
      );
      return true;
    });
  }

  /** Runs a command that prints a session, whatever its exit code. */
  async session(...args: string[]): Promise<Session> {
    const result = await this.installation.tryCli(...args, '--json');
    const parsed = JSON.parse(result.stdout) as Session & { error?: { code: string; message: string } };
    if (parsed.error) throw new Error(`${args.join(' ')}: ${parsed.error.message} [${parsed.error.code}]`);
    return parsed;
  }

  /** Runs a job to its end. */
  run(job: string, ...options: string[]): Promise<Session> {
    return this.session('job', 'run', job, ...options);
  }

  /** A seeded write into a running VM's disk. */
  async dirty(vm: string, disk: string, offsetMib: number, lengthMib: number, seed: number): Promise<void> {
    const mib = 1024 * 1024;
    await this.lab.control('POST', `/vms/${vm}/write`, {
      disk,
      offsetBytes: offsetMib * mib,
      lengthBytes: lengthMib * mib,
      pattern: 'random',
      seed,
    });
  }

  /** The raw image that qemu-img read of a disk at a session's point in time. */
  captureOf(sessionId: string, diskId: string): string {
    return captureOf(this.captures, sessionId, diskId);
  }

  /** Every disk of a task's point, read without any server, against the capture; the differences, empty when there is none. */
  async pointDifferences(task: Task, repository = this.repository): Promise<string[]> {
    const differences: string[] = [];
    for (const disk of task.disks) {
      const out = path.join(this.folder, `read-${disk.diskId}.raw`);
      fs.rmSync(out, { force: true });
      await this.installation.cli(
        'point',
        'read',
        '--repository',
        repository,
        '--point',
        task.pointId ?? '',
        '--disk',
        disk.diskId,
        '--out',
        out,
      );
      const difference = await imageDifference(this.captureOf(task.sessionId, disk.diskId), out);
      if (difference !== undefined) differences.push(`${task.vmName}/${disk.name}: ${difference}`);
      fs.rmSync(out, { force: true });
    }
    return differences;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.installation.stop();
    await this.lab.stop();
    if (process.env['TIDEMARK_KEEP_SITES'] === undefined) {
      // What was killed may write for a moment yet.
      fs.rmSync(this.folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
    }
  }
}
