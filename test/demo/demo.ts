import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { formatTable } from './table';
import { captureOf } from '../harness/captures';
import { fileChecksums, imageDifference } from '../harness/compare';
import { eventually } from '../harness/child';
import { engineClean, leftovers } from '../harness/engine-state';
import { Installation } from '../harness/installation';
import { Lab } from '../harness/lab';
import { inTheMiddle } from '../harness/middle';
import { BucketPlace } from './bucket-place';
import type { Run } from './bucket-place';
import { DemoVm, fewAmounts, manyAmounts, planWith, vmName } from './demo-vm';
import type { NamedDisk } from './demo-vm';
import { FolderPlace } from './place';
import type { Place } from './place';
import { Report } from './report';
import type { Session } from './report';
import { WorkerVm } from './worker-vm';

export interface DemoOptions {
  readonly json: boolean;
  readonly keep: boolean;
  readonly seed: number;
  /** Through a worker VM instead of the worker beside the server. */
  readonly realWorkers: boolean;
  /** The repository in a bucket, behind two gateways. */
  readonly gateway: boolean;
}

/** Runs the demo; resolves with the exit code. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-demo-'));
  const report = new Report(options.json);
  const amounts = options.realWorkers ? fewAmounts : manyAmounts;
  const guests = options.realWorkers ? { workerVms: 'guest' as const } : {};
  const lab = new Lab({ folder: path.join(folder, 'lab'), plan: planWith(amounts), clockFactor: 10, ...guests });
  const installation = new Installation(path.join(folder, 'site'));
  const workerVm = options.realWorkers ? new WorkerVm(lab, installation, report) : undefined;
  const demo = new Demo(folder, lab, installation, report, new DemoVm(lab, report, amounts, options.seed), workerVm, options.gateway);
  const interrupted = new Promise<'interrupted'>((resolve) => process.once('SIGINT', () => resolve('interrupted')));
  try {
    await Promise.race([demo.run(), interrupted]);
    report.print();
    if (options.keep) {
      report.note(howToGoOn(folder, lab, installation));
      await interrupted;
    }
    return report.good ? 0 : 1;
  } catch (error) {
    report.note(`the demo failed; logs are in ${folder}`);
    throw error;
  } finally {
    await installation.stop();
    await lab.stop();
    await demo.place.stop();
    if (report.good) fs.rmSync(folder, { recursive: true, force: true });
  }
}

class Demo {
  readonly place: Place;
  readonly #captures: string;

  constructor(
    private readonly folder: string,
    private readonly lab: Lab,
    private readonly installation: Installation,
    private readonly report: Report,
    private readonly vm: DemoVm,
    private readonly workerVm: WorkerVm | undefined,
    gateway: boolean,
  ) {
    this.#captures = path.join(folder, 'captures');
    const killed: Run = {
      vmName,
      dirty: () => this.vm.fillLedger(),
      compare: (session) => this.#comparePoint(session),
    };
    this.place = gateway ? new BucketPlace(folder, lab, installation, report, killed) : new FolderPlace(folder, installation);
  }

  async run(): Promise<void> {
    await this.#setUp();
    const full = await this.#backup('full');
    await this.vm.letGuestWrite();
    const incremental = await this.#backup('incremental');
    await this.vm.addDisk();
    await this.vm.letGuestWrite();
    const mixed = await this.#backup('mixed');
    for (const session of [full, incremental, mixed]) await this.#comparePoint(session);
    await this.#restore(mixed);
    await this.place.mishap?.();
    await this.#killWorker();
    await this.#backup('after the crash');
    await this.#verify();
  }

  async #setUp(): Promise<void> {
    const { lab, installation, report } = this;
    await this.workerVm?.prepare();
    report.step('starting the oVirt lab: engine, hosts, imageio, one Linux guest');
    await lab.start();
    await this.vm.start();
    fs.mkdirSync(this.#captures);
    await lab.control('POST', '/captures', { folder: this.#captures });
    report.step('starting the backup server with plug-in, mover and worker');
    this.workerVm?.announce();
    await installation.start();
    await eventually('the plug-in', 120_000, async () => {
      const { items } = await installation.json<{ items: { id: string; state: string }[] }>('plugin', 'list');
      if (items[0]?.state !== 'connected') return undefined;
      await installation.cli('plugin', 'enable', items[0].id);
      return true;
    });
    const { engineUrl, user, passwordFile, caFile } = lab.access;
    const fingerprint = fingerprintOf(caFile);
    await eventually('the platform', 120_000, async () => {
      await installation.cli(
        'platform',
        'add',
        'lab',
        '--url',
        engineUrl,
        '--user',
        user,
        '--password-file',
        passwordFile,
        '--fingerprint',
        fingerprint,
      );
      return true;
    });
    await this.place.add();
    if (this.workerVm) await this.workerVm.deploy('Level46');
    else await installation.cli('worker', 'policy', '--deploy-automatically', 'off');
    await installation.cli('job', 'create', 'nightly', '--repository', 'main', '--vm', vmName);
    report.note((await installation.tryCli('vm', 'preflight', vmName)).stdout.trimEnd());
  }

  /** One run of the job, with its bars; then what it read and stored. */
  async #backup(title: string): Promise<Session> {
    this.report.step(`backup: ${title}`);
    const result = await this.installation.onTerminal('job', 'run', 'nightly', '--json');
    const session = JSON.parse(result.stdout) as Session;
    if (result.code !== 0 && result.code !== 3)
      throw new Error(`the ${title} backup ended ${session.state}: ${JSON.stringify(session.tasks?.[0]?.failure)}`);
    this.report.session(title, session);
    this.workerVm?.expectThrough(title, session);
    await engineClean(this.lab);
    return session;
  }

  /** Every disk of a point, read by the offline reader, against what qemu-img read at the point in time. */
  async #comparePoint(session: Session): Promise<void> {
    const [task] = session.tasks;
    if (!task?.pointId) throw new Error('no restore point');
    for (const disk of task.disks) {
      const out = path.join(this.folder, 'offline.raw');
      fs.rmSync(out, { force: true });
      await this.place.readOffline(task.pointId, disk.diskId, out);
      const difference = await imageDifference(captureOf(this.#captures, session.id, disk.diskId), out);
      this.report.comparison(
        `point ${task.pointId.slice(0, 8)}, ${disk.name}: ${this.place.reader}, against the engine's point in time`,
        difference,
      );
    }
  }

  async #restore(session: Session): Promise<void> {
    this.report.step('restore as a new VM');
    const [task] = session.tasks;
    const result = await this.installation.onTerminal(
      'restore',
      'vm',
      task?.pointId ?? '',
      '--name',
      'shop-restored',
      '--mac',
      'keep-if-free',
      '--json',
    );
    const restore = JSON.parse(result.stdout) as Session;
    if (result.code !== 0 && result.code !== 3)
      throw new Error(`the restore ended ${restore.state}: ${JSON.stringify(restore.tasks?.[0]?.failure)}`);
    this.report.session('restore', restore);
    this.workerVm?.expectThrough('restore', restore);
    const restored = (await this.lab.entities<NamedDisk>('vms')).find(({ name }) => name === 'shop-restored');
    const attachments = await this.lab.entities<{ vmId: string; diskId: string }>('attachments');
    const disks = await this.lab.entities<NamedDisk>('disks');
    const mine = attachments.filter(({ vmId }) => vmId === restored?.id).map(({ diskId }) => disks.find(({ id }) => id === diskId));
    this.report.comparison(
      'all disks are back',
      mine.length === task?.disks.length ? undefined : `${mine.length} of ${task?.disks.length}`,
    );
    for (const stored of task?.disks ?? []) {
      const copy = mine.find((disk) => disk?.name === stored.name);
      const file = path.join(this.folder, `${stored.name}.restored.raw`);
      await this.lab.control('POST', `/disks/${copy?.id}/dump`, { file });
      const capture = captureOf(this.#captures, session.id, stored.diskId);
      this.report.comparison(`restored VM, ${stored.name}: qemu-img compare`, copy ? await imageDifference(capture, file) : 'missing');
      if (stored.name === 'shop-system') await this.#compareFiles(capture, file);
    }
  }

  async #compareFiles(capture: string, restored: string): Promise<void> {
    const [expected, found] = [await fileChecksums(capture), await fileChecksums(restored)];
    const wrong = [...expected].filter(([name, sum]) => found.get(name) !== sum).map(([name]) => name);
    const difference =
      wrong.length > 0 || expected.size !== found.size || expected.size === 0
        ? `${wrong.length} of ${expected.size} files differ`
        : undefined;
    this.report.comparison(`${expected.size} files inside shop-system, by SHA-256`, difference);
  }

  /** Kills the worker while it reads, and the plug-in with it so that nobody is left who knows of the run; then the janitor's turn. */
  async #killWorker(): Promise<void> {
    const { lab, installation, report } = this;
    report.step('killing the worker, and the plug-in with it, in the middle of a run');
    await installation.cli('config', 'set', 'retryAttempts', '1');
    const show = async (id: string) => JSON.parse((await installation.tryCli('session', 'show', id, '--json')).stdout) as Session;
    const start = async () => (await installation.json<Session>('job', 'run', 'nightly', '--full', '--no-watch')).id;
    const id = await inTheMiddle(lab, { hostId: await this.vm.host(), start, show, moreThanBytes: 0 }, async () => {
      if (this.workerVm) await this.workerVm.kill();
      else installation.kill('worker');
      installation.kill('plugin');
    });
    const left = await leftovers(lab);
    report.note(`in the engine right after the kill:\n${left.map((line) => `  ${line}`).join('\n')}`);
    const ended = await eventually('the end of the run', 300_000, async () => {
      const found = await show(id);
      return found.endedAt ? found : undefined;
    });
    report.session('killed', ended);
    await engineClean(lab);
    await eventually('the janitor to settle what it found', 120_000, async () => {
      const { leftovers: found } = await installation.json<{ leftovers: { state: string }[] }>('janitor', 'report');
      return (found.length > 0 && found.every(({ state }) => state === 'removed')) || undefined;
    });
    report.note((await installation.tryCli('janitor', 'report')).stdout.trimEnd());
    report.comparison('engine without leftovers after the crash', (await leftovers(lab)).join('; ') || undefined);
    await installation.cli('config', 'set', 'retryAttempts', '3');
  }

  async #verify(): Promise<void> {
    this.report.step('verifying the repository: every block is read again');
    const result = await this.installation.tryCli('repository', 'verify', 'main', '--json');
    const session = JSON.parse(result.stdout) as Session;
    this.report.comparison('repository verifies', session.state === 'success' ? undefined : session.state);
  }
}

function fingerprintOf(caFile: string): string {
  const { X509Certificate } = process.getBuiltinModule('node:crypto');
  return new X509Certificate(fs.readFileSync(caFile)).fingerprint256;
}

function howToGoOn(folder: string, lab: Lab, installation: Installation): string {
  const rows = [
    { what: 'command line', how: `TIDEMARK_CLI_CONFIG=${path.join(folder, 'site', 'cli.json')} scripts/tidemark vm list` },
    { what: 'engine', how: `${lab.access.engineUrl} as ${lab.access.user}, password in ${lab.access.passwordFile}` },
    { what: 'faults on demand', how: `curl ${lab.access.controlUrl}` },
    { what: 'logs', how: `${installation.dataDir}/log and ${path.join(folder, 'lab', 'lab.log')}` },
  ];
  const columns = [
    { title: 'to go on', value: (row: (typeof rows)[number]) => row.what },
    { title: '', value: (row: (typeof rows)[number]) => row.how },
  ];
  return `\n${formatTable(rows, columns)}\n\nCtrl-C ends everything.`;
}
