/**
 * An engine in memory, with the interface of `plugin/engine` and the states, locks and refusals of engine REST API §14. One file per
 * resource in `fake-engine/`. Faults are hooks before a call (it is refused, or never arrives) and after it (its answer is lost).
 */
import type { Disk } from '../engine/disks';
import type { Engine } from '../engine/engine';
import type { ReadZeroRanges } from '../image-service/read-zero-ranges';
import { fakeBackups, fakeCheckpoints } from './fake-engine/fake-backups';
import { addDisk, fakeDiskAttachments, fakeDisks } from './fake-engine/fake-disks';
import { fakeSnapshots } from './fake-engine/fake-snapshots';
import { fakeSurroundings } from './fake-engine/fake-surroundings';
import { fakeTransfers } from './fake-engine/fake-transfers';
import { addVm, fakeNics, fakeVms } from './fake-engine/fake-vms';
import { fakeWorkerDisks, fakeWorkerSurroundings, fakeWorkerVms } from './fake-engine/fake-worker-parts';
import { FakeWorld, finalBackup, finalTransfer } from './fake-engine/fake-world';
import type { FakeVm, Mutable } from './fake-rows';

export type { Hook } from './fake-engine/fake-world';

export class FakeEngine extends FakeWorld {
  readonly imageioCaPem = 'CA';
  readonly #surroundings = fakeSurroundings(this);
  readonly #workerParts = fakeWorkerSurroundings(this);
  readonly url = 'https://engine.example/ovirt-engine';
  readonly webCaPem = 'WEB-CA';
  readonly vms = { ...fakeVms(this), ...fakeWorkerVms(this) };
  readonly nics = { ...fakeNics(this), ...this.#workerParts.nics };
  readonly disks = { ...fakeDisks(this), ...fakeWorkerDisks(this) };
  readonly graphicsConsoles = this.#workerParts.graphicsConsoles;
  readonly diskAttachments = fakeDiskAttachments(this);
  readonly backups = fakeBackups(this);
  readonly checkpoints = fakeCheckpoints(this);
  readonly snapshots = fakeSnapshots(this);
  readonly transfers = fakeTransfers(this);
  readonly tags = { ...this.#surroundings.tags, ensure: this.#workerParts.ensureTag };
  readonly clusters = this.#surroundings.clusters;
  readonly dataCenters = this.#surroundings.dataCenters;
  readonly hosts = this.#surroundings.hosts;
  readonly storageDomains = this.#surroundings.storageDomains;
  readonly networks = { ...this.#surroundings.networks, ofCluster: this.#workerParts.networksOfCluster };
  readonly affinityGroups = this.#workerParts.affinityGroups;
  readonly events = this.#surroundings.events;

  /** The image service's answer, for transfers that it serves now. */
  readonly readZeroRanges: ReadZeroRanges = async ({ transferUrl }) => {
    await Promise.resolve();
    const transfer = this.transfersById.get(transferUrl.split('/').at(-1) ?? '');
    if (transfer?.phase !== 'transferring') return { problem: 'the image service answers 403', away: false };
    const disk = this.disksById.get(transfer.diskId ?? '');
    return { ranges: this.zeroRanges.get(disk?.id ?? '') ?? [], sizeBytes: disk?.provisionedBytes ?? 0 };
  };

  /** The whole as the classes of plugin/engine; what is missing is never called by what is tested with it. */
  asEngine(): Engine {
    return this as unknown as Engine;
  }

  addVm(name: string, disks: readonly Partial<Mutable<Disk>>[], status = 'up'): FakeVm {
    return addVm(this, name, disks, status);
  }

  addDisk(more: Partial<Mutable<Disk>> = {}): Mutable<Disk> {
    return addDisk(this, more);
  }

  /** Everything that a backup or restore must not leave behind; checkpoints are listed apart. */
  leftovers(): string[] {
    const left: string[] = [];
    for (const t of this.transfersById.values()) if (!finalTransfer.includes(t.phase)) left.push(`transfer ${t.diskId} ${t.phase}`);
    for (const { vm, backups, snapshots } of this.vmsById.values()) {
      for (const b of backups) if (!finalBackup.includes(b.phase)) left.push(`backup of ${vm.name} ${b.phase}`);
      for (const s of snapshots) if (s.type !== 'active') left.push(`snapshot of ${vm.name} ${s.description}`);
    }
    for (const { vm, attachments } of this.vmsById.values())
      for (const a of attachments) if (a.snapshotId !== undefined) left.push(`disk of a snapshot on ${vm.name}`);
    for (const id of this.frozen) left.push(`frozen ${id}`);
    for (const d of this.disksById.values()) if (d.status !== 'ok') left.push(`disk ${d.name} ${d.status}`);
    return left;
  }

  checkpointsOf(vm: FakeVm): string[] {
    return vm.checkpoints.map((c) => c.id);
  }

  /** The engine restarts: whoever polls sees it away for a while. */
  async restart(awayMs: number): Promise<void> {
    this.away = true;
    await this.clock.sleep(awayMs);
    this.away = false;
  }
}
