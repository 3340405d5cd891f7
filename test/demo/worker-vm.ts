import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import type { Installation } from '../harness/installation';
import type { Lab } from '../harness/lab';
import type { Report, Session } from './report';

const root = path.resolve(__dirname, '..', '..', '..');
const name = 'demo-worker';

interface Vm {
  readonly id: string;
  readonly name: string;
  readonly status: string;
}

/** The demo's worker VM: the real image, put into the lab's engine by the plug-in and booted from the disk that was uploaded. */
export class WorkerVm {
  #imageBytes = 0;

  constructor(
    private readonly lab: Lab,
    private readonly installation: Installation,
    private readonly report: Report,
  ) {}

  async prepare(): Promise<void> {
    this.report.step('building the worker image, if it is not there yet');
    const script = path.join(root, 'scripts', 'worker-image', 'main.py');
    const manifest = execFileSync('python3', [script], { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim();
    this.#imageBytes = (JSON.parse(fs.readFileSync(manifest, 'utf8')) as { fileBytes: number }).fileBytes;
  }

  /** Once the lab is up, before the server starts: by which address the guest will find it. */
  announce(): void {
    const { serverAddress } = this.lab.access.network ?? {};
    if (serverAddress === undefined) throw new Error('the lab has no network');
    this.installation.announce([serverAddress]);
  }

  async deploy(cluster: string): Promise<void> {
    const { installation, report } = this;
    report.step(`deploying a worker VM into the cluster ${cluster}; from now on all data goes through it`);
    await installation.cli('worker', 'policy', '--beside-server', 'off', '--deploy-automatically', 'off');
    const startedMs = Date.now();
    const after = () => (Date.now() - startedMs) / 1000;
    const deployed = installation.onTerminal('worker', 'deploy', '--cluster', cluster, '--name', name, '--json');
    const failed = deployed.then((result) => {
      if (result.code !== 0 && result.code !== 3) throw new Error(`the worker VM was not deployed: ${result.stdout}${result.stderr}`);
      return undefined;
    });
    const reached = async (what: string, look: () => Promise<boolean>) => {
      const found = eventually(what, 240_000, async () => (await look()) || undefined);
      // A command that failed will not get there any more.
      await Promise.race([found, failed.then(() => found)]);
      return after();
    };
    // The VM is made once its image is there.
    const uploadedAfter = await reached('the upload', async () => (await this.#vm()) !== undefined);
    const startedAfter = await reached('the start', async () => ((await this.#vm())?.status ?? 'down') !== 'down');
    const bootedAfter = await reached('the boot', () => this.#says('appliance: started'));
    const enrolledAfter = await reached('the enrolment', () => this.#says('worker: enrolled'));
    await failed;
    report.deployed({ imageBytes: this.#imageBytes, uploadedAfter, startedAfter, bootedAfter, enrolledAfter, testedAfter: after() });
    report.note((await installation.tryCli('worker', 'test', name)).stdout.trimEnd());
  }

  /** Every disk of a run was carried by this VM. */
  expectThrough(title: string, session: Session): void {
    const hops = session.tasks.flatMap((task) => task.disks.map(({ workerHop }) => workerHop));
    const others = hops.filter((hop) => hop !== 'same-cluster');
    this.report.comparison(`${title}: ${hops.length} disks through the worker VM`, others.length === 0 ? undefined : others.join(', '));
  }

  /** As a host that dies takes it along. */
  async kill(): Promise<void> {
    await this.lab.control('POST', `/vms/${name}/kill`);
  }

  async #vm(): Promise<Vm | undefined> {
    return (await this.lab.entities<Vm>('vms')).find((vm) => vm.name === name);
  }

  async #says(text: string): Promise<boolean> {
    return (await this.lab.control<{ text: string }>('GET', `/vms/${name}/console`)).text.includes(text);
  }
}
