/** The demo's repository in a bucket that no mover can live beside: two gateways carry the data, and the reader runs on another machine. */
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from '../harness/child';
import type { Installation } from '../harness/installation';
import type { Lab } from '../harness/lab';
import { inTheMiddle } from '../harness/middle';
import { OtherMachine } from '../harness/other-machine';
import { BucketServer } from '../harness/s3-server';
import type { Place } from './place';
import type { Report, Session } from './report';

const mib = 1024 * 1024;
const names = ['east', 'west'] as const;

/** What a run that loses its gateway is done with. */
export interface Run {
  readonly vmName: string;
  /** Fills some of a disk with what the repository does not have. */
  dirty(): Promise<void>;
  compare(session: Session): Promise<void>;
}

export class BucketPlace implements Place {
  readonly reader = 'offline reader on another machine, with the recovery key';
  readonly #ids = new Map<string, string>();
  #bucket: BucketServer | undefined;
  #machine: OtherMachine | undefined;

  constructor(
    private readonly folder: string,
    private readonly lab: Lab,
    private readonly installation: Installation,
    private readonly report: Report,
    private readonly run: Run,
  ) {}

  async add(): Promise<void> {
    const { installation, report, folder } = this;
    report.step("starting an S3 server (Ceph's RADOS gateway) and two gateways of ours");
    const bucket = (this.#bucket = await BucketServer.start(path.join(folder, 's3')));
    for (const name of names) this.#ids.set(name, await installation.startGateway(name));
    const passphraseFile = path.join(folder, 'passphrase');
    fs.writeFileSync(passphraseFile, 'the demo has no secrets', { mode: 0o600 });
    const { recoveryKey } = await installation.json<{ recoveryKey: string }>(
      ...['repository', 'add', 'main', '--location', bucket.location('demo'), '--access-key-file', bucket.keyFile],
      ...['--passphrase-file', passphraseFile],
    );
    // All that the other machine is given: the program, the bucket's key and the recovery key.
    this.#machine = new OtherMachine(path.join(folder, 'other-machine'), [
      path.join(folder, 'site'),
      path.join(folder, 'lab'),
      passphraseFile,
    ]);
    this.#machine.give('access-key', fs.readFileSync(bucket.keyFile, 'utf8'));
    this.#machine.give('recovery-key', recoveryKey);
    report.note((await installation.tryCli('gateway', 'list')).stdout.trimEnd());
    report.note((await installation.tryCli('repository', 'path', 'main')).stdout.trimEnd());
  }

  async readOffline(pointId: string, diskId: string, out: string): Promise<void> {
    const machine = this.#machine!;
    const made = await machine.tidemark(
      ...['point', 'read', '--repository', this.#bucket!.location('demo'), '--access-key-file', machine.at('access-key')],
      ...['--recovery-key-file', machine.at('recovery-key'), '--point', pointId, '--disk', diskId, '--out', machine.at('disk.raw')],
    );
    if (made.code !== 0) throw new Error(`the offline reader failed: ${made.stdout}${made.stderr}`);
    fs.renameSync(machine.at('disk.raw'), out);
  }

  /** One of the gateways is killed while it carries a full backup. */
  readonly mishap = async (): Promise<void> => {
    const { lab, installation, report } = this;
    report.step('killing the gateway that carries a full backup, in the middle of it');
    const show = async (id: string) => JSON.parse((await installation.tryCli('session', 'show', id, '--json')).stdout) as Session;
    const hostId =
      (await lab.entities<{ name: string; hostId?: string }>('vms')).find(({ name }) => name === this.run.vmName)?.hostId ?? '';
    const start = async () => {
      await this.run.dirty();
      return (await installation.json<Session>('job', 'run', 'nightly', '--full', '--no-watch')).id;
    };
    let carrier: string | undefined;
    const id = await inTheMiddle(lab, { hostId, start, show, moreThanBytes: 48 * mib }, async ({ tasks: [task] }) => {
      carrier = task?.path?.moverId;
      await installation.killGateway(this.#gatewayOf(carrier));
    });
    const ended = await eventually('the end of the run', 300_000, async () => {
      const session = await show(id);
      return session.endedAt === null ? undefined : session;
    });
    report.session('gateway killed', ended);
    report.note((await installation.tryCli('session', 'show', id)).stdout.trimEnd());
    const [task] = ended.tasks;
    const replaced = task?.notes.some(({ code }) => code === 'mover-replaced') === true && task.path?.moverId !== carrier;
    report.comparison('the backup went on at the other gateway, in the same try', replaced && task.attempt === 1 ? undefined : ended.state);
    const sum = (of: 'readBytes' | 'plannedBytes') => task?.disks.reduce((total, { counters }) => total + counters[of], 0) ?? 0;
    const [read, planned] = [sum('readBytes'), sum('plannedBytes')];
    report.comparison(
      `read for it: ${Math.round(read / mib)} MiB of ${Math.round(planned / mib)} MiB that a run without mishap reads`,
      read < 2 * planned ? undefined : 'all of it was read again',
    );
    await this.run.compare(ended);
    installation.startGatewayAgain(this.#gatewayOf(carrier));
  };

  #gatewayOf(moverId: string | undefined): (typeof names)[number] {
    const name = names.find((one) => this.#ids.get(one) === moverId);
    if (!name) throw new Error(`no gateway carries the backup, but ${moverId}`);
    return name;
  }

  async stop(): Promise<void> {
    await this.#bucket?.stop();
  }
}
