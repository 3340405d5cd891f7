/**
 * An engine in memory, with the interface of `plugin/engine` and the states, locks and refusals of engine REST API §14: live, cold and
 * hybrid backups, checkpoints with bitmaps that can break, transfers that end in steps, uploads whose cancel removes the disk. Faults are
 * hooks before a call (it is refused, or never arrives) and after it (its answer is lost).
 */
import { randomUUID } from 'node:crypto';
import { Secret } from '../../common/log/redact';
import type { EngineBackup, NewBackup } from '../engine/backups';
import type { NewAttachment } from '../engine/disk-attachments';
import type { Disk, NewDisk } from '../engine/disks';
import type { Engine } from '../engine/engine';
import { EngineErrors } from '../engine/engine-errors';
import type { ImageTransfer, NewTransfer } from '../engine/image-transfers';
import type { NewNic, Nic } from '../engine/nics';
import { engineBackupSnapshot } from '../engine/snapshots';
import type { Snapshot } from '../engine/snapshots';
import type { Vm } from '../engine/vms';
import type { Clock } from '../operations/clock';
import { emptyAttachment, emptyDisk, emptyVm } from './fake-rows';
import type { FakeBackup, FakeTransfer, FakeVm, Mutable } from './fake-rows';

export type Hook = (call: string, args: readonly unknown[]) => void;

const finalBackup = ['succeeded', 'failed'];
const finalTransfer = ['finished_success', 'finished_failure'];

export class FakeEngine {
  readonly vmsById = new Map<string, FakeVm>();
  readonly disksById = new Map<string, Mutable<Disk>>();
  readonly transfersById = new Map<string, FakeTransfer>();
  readonly domains = new Map([['sd1', { storageType: 'nfs', status: 'active' }]]);
  readonly profiles = new Map([['profile1', 'ovirtmgmt']]);
  readonly tagNames = new Set<string>();
  /** Compatibility level of the one cluster. */
  level = { major: 4, minor: 6 };
  /** disk/checkpoint pairs whose bitmap is gone. */
  readonly brokenBitmaps = new Set<string>();
  /** Why backups fail while they start; empty: they do not. */
  startFailure = '';
  /** The host does not let go of tickets. */
  ticketsStuck = false;
  /** The merge of a hybrid backup's snapshot fails this often. */
  failingMerges = 0;
  /** So many transfers cannot start: no host, or its imageio is away. */
  failingTransfers = 0;
  /** Finished rows are forgotten at once, as engines before 4.4.7 did. */
  forgetful = false;
  away = false;
  before: Hook = () => undefined;
  after: Hook = () => undefined;
  readonly calls: string[] = [];
  lastFailure = '';

  constructor(
    private readonly clock: Clock,
    private readonly stepMs = 2000,
  ) {}

  // ---- what a test sets up and looks at ----

  addVm(name: string, disks: readonly Partial<Mutable<Disk>>[], status = 'up'): FakeVm {
    const id = randomUUID();
    const vm: FakeVm = {
      vm: { ...emptyVm, id, name, status, clusterId: 'cluster1' },
      attachments: [],
      nics: [
        {
          id: randomUUID(),
          name: 'nic1',
          interface: 'virtio',
          macAddress: `56:6f:00:00:00:0${this.vmsById.size}`,
          vnicProfileId: 'profile1',
          plugged: true,
          linked: true,
        },
      ],
      tags: [],
      snapshots: [
        {
          id: randomUUID(),
          description: 'Active VM',
          status: 'ok',
          type: 'active',
          createdAt: undefined,
          withMemory: false,
          ovf: undefined,
        },
      ],
      checkpoints: [],
      backups: [],
    };
    this.vmsById.set(id, vm);
    disks.forEach((more, index) => {
      const disk = this.addDisk({ name: `${name}_disk${index + 1}`, ...more });
      vm.attachments.push({ ...emptyAttachment, diskId: disk.id, vmId: id, bootable: index === 0, disk });
    });
    return vm;
  }

  addDisk(more: Partial<Mutable<Disk>> = {}): Mutable<Disk> {
    const disk = { ...emptyDisk, id: randomUUID(), ...more };
    this.disksById.set(disk.id, disk);
    return disk;
  }

  /** Everything that a backup or restore must not leave behind; checkpoints are listed apart. */
  leftovers(): string[] {
    const left: string[] = [];
    for (const t of this.transfersById.values()) if (!finalTransfer.includes(t.phase)) left.push(`transfer ${t.diskId} ${t.phase}`);
    for (const { vm, backups, snapshots } of this.vmsById.values()) {
      for (const b of backups) if (!finalBackup.includes(b.phase)) left.push(`backup of ${vm.name} ${b.phase}`);
      for (const s of snapshots) if (s.type !== 'active') left.push(`snapshot of ${vm.name} ${s.description}`);
    }
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

  // ---- the interface of Engine ----

  readonly imageioCaPem = 'CA';

  readonly vms = {
    find: this.#call('vms.find', (id: string) => this.#view(this.vmsById.get(id))),
    get: this.#call('vms.get', (id: string) => this.#view(this.#vm(id))),
    findByName: this.#call('vms.findByName', (name: string) => this.#view([...this.vmsById.values()].find((v) => v.vm.name === name))),
    raw: this.#call('vms.raw', (id: string) => {
      const { vm, attachments } = this.#vm(id);
      const locked = attachments.some((a) => this.disksById.get(a.diskId)?.status === 'locked');
      return {
        id,
        name: vm.name,
        description: vm.description,
        memory: '1073741824',
        cpu: { architecture: 'x86_64', topology: { sockets: '2' } },
        initialization: {
          host_name: 'web',
          root_password: '******',
          ...(locked ? {} : { configuration: { type: 'ovf', data: '<ovf:Envelope/>' } }),
        },
      };
    }),
    create: this.#call('vms.create', (body: Record<string, unknown> & { name: string }) => {
      if ([...this.vmsById.values()].some((v) => v.vm.name === body.name))
        throw refused(409, 'Cannot add VM. The VM name is already in use.');
      const made = this.addVm(body.name, [], 'down');
      made.nics = [];
      made.vm.description = typeof body['description'] === 'string' ? body['description'] : '';
      return this.#view(made);
    }),
    update: this.#call('vms.update', (id: string, body: Record<string, unknown>) => {
      const found = this.#vm(id);
      if (typeof body['description'] === 'string') found.vm.description = body['description'];
      return this.#view(found);
    }),
    remove: this.#call('vms.remove', (id: string) => {
      const found = this.vmsById.get(id);
      if (!found) return false;
      if (found.vm.status !== 'down') throw refused(409, 'Cannot remove VM. VM is running.');
      if (found.attachments.some((a) => this.disksById.get(a.diskId)?.status === 'locked'))
        throw conflict('Cannot remove VM: disks are locked');
      this.#later(() => {
        this.vmsById.delete(id);
        for (const a of found.attachments) this.disksById.delete(a.diskId);
      });
      return true;
    }),
    start: this.#call('vms.start', (id: string) => {
      this.#vm(id).vm.status = 'up';
    }),
  };

  readonly disks = {
    find: this.#call('disks.find', (id: string) => copy(this.disksById.get(id))),
    create: this.#call('disks.create', (body: NewDisk) => {
      if (this.disksById.has(body.id)) throw refused(409, 'disk id exists');
      const disk = this.addDisk({
        id: body.id,
        name: body.name,
        description: body.description ?? '',
        provisionedBytes: body.provisionedBytes,
        format: body.format,
        sparse: body.sparse,
        storageDomainId: body.storageDomainId,
        status: 'locked',
      });
      this.#later(() => (disk.status = 'ok'));
      return { ...disk };
    }),
    remove: this.#call('disks.remove', (id: string) => {
      const disk = this.disksById.get(id);
      if (!disk) return false;
      if (disk.status === 'locked') throw conflict('disk is locked');
      disk.status = 'locked';
      this.#later(() => this.disksById.delete(id));
      return true;
    }),
    pages: (options: { search?: string }) => this.#pages(options),
  };

  readonly backups = {
    start: this.#call('backups.start', (vmId: string, body: NewBackup) => this.#startBackup(vmId, body)),
    find: this.#call('backups.find', (vmId: string, id: string) => {
      const found = this.#vm(vmId).backups.find((b) => b.id === id);
      return found && !(this.forgetful && finalBackup.includes(found.phase)) ? { ...found } : undefined;
    }),
    list: this.#call('backups.list', (vmId: string) => this.#vm(vmId).backups.map((b) => ({ ...b }))),
    disks: this.#call('backups.disks', (vmId: string, id: string) => this.#vm(vmId).backups.find((b) => b.id === id)?.disks ?? []),
    finalize: this.#call('backups.finalize', (vmId: string, id: string) => this.#finalizeBackup(vmId, id)),
  };

  readonly checkpoints = {
    list: this.#call('checkpoints.list', (vmId: string) => this.#vm(vmId).checkpoints.map((c) => ({ ...c }))),
    disks: this.#call('checkpoints.disks', (vmId: string, id: string) => {
      const found = this.#vm(vmId).checkpoints.find((c) => c.id === id);
      return (found?.diskIds ?? []).flatMap((diskId) => copy(this.disksById.get(diskId)) ?? []);
    }),
    remove: this.#call('checkpoints.remove', (vmId: string, id: string) => {
      const vm = this.#vm(vmId);
      if (vm.backups.some((b) => !finalBackup.includes(b.phase))) throw conflict('VM is during a backup');
      if (!vm.checkpoints.some((c) => c.id === id)) return false;
      this.#later(() => (vm.checkpoints = vm.checkpoints.filter((c) => c.id !== id)));
      return true;
    }),
  };

  readonly transfers = {
    create: this.#call('transfers.create', (body: NewTransfer) => this.#createTransfer(body)),
    find: this.#call('transfers.find', (id: string) => {
      const found = this.transfersById.get(id);
      return found && !(this.forgetful && finalTransfer.includes(found.phase)) ? view(found) : undefined;
    }),
    list: this.#call('transfers.list', () => [...this.transfersById.values()].map(view)),
    finalize: this.#call('transfers.finalize', (id: string) => this.#endTransfer(id, 'finalizing_success')),
    cancel: this.#call('transfers.cancel', (id: string) => this.#endTransfer(id, 'finalizing_cleanup')),
  };

  readonly snapshots = {
    list: this.#call('snapshots.list', (vmId: string) => this.#vm(vmId).snapshots.map((s) => ({ ...s }))),
    remove: this.#call('snapshots.remove', (vmId: string, id: string) => {
      const vm = this.#vm(vmId);
      if (vm.backups.some((b) => !finalBackup.includes(b.phase))) throw conflict('VM is during a backup');
      const found = vm.snapshots.find((s) => s.id === id);
      if (!found) return false;
      this.#merge(vm, found);
      return true;
    }),
  };

  readonly diskAttachments = {
    list: this.#call('diskAttachments.list', (vmId: string) => this.#view(this.#vm(vmId)).diskAttachments),
    add: this.#call('diskAttachments.add', (vmId: string, body: NewAttachment) => {
      if (this.disksById.get(body.diskId)?.status !== 'ok') throw conflict('disk is locked');
      const attachment = { ...emptyAttachment, ...body, vmId, readOnly: body.readOnly ?? false, passDiscard: false, disk: undefined };
      this.#vm(vmId).attachments.push(attachment);
      return attachment;
    }),
  };

  readonly nics = {
    add: this.#call('nics.add', (vmId: string, body: NewNic) => {
      const used = [...this.vmsById.values()].some((v) =>
        v.nics.some((n) => n.macAddress !== undefined && n.macAddress === body.macAddress),
      );
      if (used) throw refused(409, `MAC Address ${body.macAddress} is already in use.`);
      const nic: Nic = { macAddress: `56:6f:ff:00:00:${this.calls.length % 90}`, vnicProfileId: undefined, ...body, id: randomUUID() };
      this.#vm(vmId).nics.push(nic);
      return nic;
    }),
  };

  readonly tags = {
    list: this.#call('tags.list', () => [...this.tagNames].map((name) => ({ id: name, name }))),
    assign: this.#call('tags.assign', (vmId: string, name: string) => void this.#vm(vmId).tags.push(name)),
  };

  readonly clusters = {
    find: this.#call('clusters.find', (id: string) => (id === 'cluster1' ? this.#cluster() : undefined)),
    list: this.#call('clusters.list', () => [this.#cluster()]),
  };
  readonly dataCenters = { list: this.#call('dataCenters.list', () => [{ id: 'dc1', name: 'Default', status: 'up' }]) };
  readonly hosts = {
    list: this.#call('hosts.list', () => [{ id: 'h1', name: 'host1', address: 'host1', status: 'up', clusterId: 'cluster1' }]),
  };
  readonly storageDomains = {
    find: this.#call('storageDomains.find', (id: string) => this.#domain(id)),
    listOfDataCenter: this.#call('storageDomains.listOfDataCenter', () => [...this.domains.keys()].map((id) => this.#domain(id)!)),
  };
  readonly networks = {
    vnicProfiles: this.#call('networks.vnicProfiles', () =>
      [...this.profiles].map(([id, name]) => ({ id, name, networkId: 'n1', passThrough: false })),
    ),
  };
  readonly affinityGroups = {
    list: this.#call('affinityGroups.list', () => []),
    addVm: this.#call('affinityGroups.addVm', () => undefined),
  };
  readonly events = { failureText: this.#call('events.failureText', () => this.lastFailure || undefined) };

  /** The whole as the classes of plugin/engine; what is missing is never called by what is tested with it. */
  asEngine(): Engine {
    return this as unknown as Engine;
  }

  // ---- behaviour ----

  #call<A extends readonly unknown[], R>(name: string, work: (...args: A) => R): (...args: [...A, ...unknown[]]) => Promise<R> {
    return async (...args) => {
      await Promise.resolve();
      this.calls.push(name);
      if (this.away) throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'restarting' });
      this.before(name, args);
      const result = work(...(args as unknown as A));
      this.after(name, args);
      return result;
    };
  }

  #startBackup(vmId: string, body: NewBackup): EngineBackup {
    const vm = this.#vm(vmId);
    if (vm.backups.some((b) => b.id === body.id)) throw refused(400, 'backup id already exists');
    if (vm.backups.some((b) => !finalBackup.includes(b.phase))) throw conflict('Cannot backup VM. The VM is during a backup operation.');
    const disks = body.diskIds.map((id) => this.disksById.get(id));
    if (disks.some((d) => d === undefined)) throw refused(400, 'disks do not exist');
    if (disks.some((d) => d?.status === 'locked')) throw conflict('Cannot backup VM. Disks are locked.');
    if (vm.vm.status !== 'up' && vm.vm.status !== 'down') throw refused(409, 'VM should be up or down');
    const from = vm.checkpoints.find((c) => c.id === body.fromCheckpointId);
    if (body.fromCheckpointId !== undefined && !from) throw this.#unusable(vmId, body, 'The checkpoint does not exist.');
    if (from && from.state !== 'created') throw this.#unusable(vmId, body, 'The checkpoint is invalid.');
    const hybrid = this.level.minor >= 7 && body.legacy !== true;
    const backup: FakeBackup = {
      id: body.id,
      phase: 'initializing',
      description: body.description,
      vmId,
      hostId: undefined,
      snapshotId: undefined,
      fromCheckpointId: body.fromCheckpointId,
      toCheckpointId: undefined,
      createdAt: new Date(this.clock.now()),
      mode: hybrid ? 'hybrid' : vm.vm.status === 'up' ? 'live' : 'cold',
      stopping: false,
      disks: disks.flatMap((disk) => {
        if (!disk) return [];
        const incremental = from !== undefined && disk.format === 'cow' && from.diskIds.includes(disk.id);
        return [{ ...disk, backupMode: incremental ? ('incremental' as const) : ('full' as const) }];
      }),
    };
    vm.backups.push(backup);
    if (backup.mode === 'live' && from && body.diskIds.some((id) => this.brokenBitmaps.has(`${id}/${from.id}`))) {
      // Redefinition fails inside the request: all checkpoints of the VM go.
      vm.checkpoints = [];
      backup.phase = 'failed';
      throw this.#unusable(vmId, body, '');
    }
    if (!hybrid) for (const d of disks) if (d) d.status = 'locked';
    void this.#proceed(vm, backup, body);
    return { ...backup };
  }

  async #proceed(vm: FakeVm, backup: FakeBackup, body: NewBackup): Promise<void> {
    if (backup.mode === 'hybrid') {
      backup.phase = 'starting';
      const active = vm.snapshots.find((s) => s.type === 'active')!;
      backup.snapshotId = active.id;
      active.type = 'regular';
      active.description = engineBackupSnapshot;
      active.status = 'locked';
      vm.snapshots.push({ ...active, id: randomUUID(), description: 'Active VM', type: 'active', status: 'ok' });
    }
    await this.clock.sleep(this.stepMs);
    if (finalBackup.includes(backup.phase)) return;
    if (this.startFailure !== '' || (body.requireConsistency === true && backup.mode !== 'live')) {
      this.lastFailure = this.startFailure;
      return this.#failBackup(vm, backup);
    }
    backup.phase = 'starting';
    await this.clock.sleep(this.stepMs);
    if (finalBackup.includes(backup.phase)) return;
    const covered = backup.disks.filter((d) => d.format === 'cow').map((d) => d.id);
    if (covered.length > 0 || backup.mode === 'hybrid') {
      backup.toCheckpointId = randomUUID();
      vm.checkpoints.push({
        id: backup.toCheckpointId,
        parentId: vm.checkpoints.at(-1)?.id,
        description: backup.description,
        state: 'created',
        createdAt: undefined,
        diskIds: covered,
      });
    }
    for (const s of vm.snapshots) if (s.id === backup.snapshotId) s.status = 'ok';
    backup.phase = 'ready';
  }

  #finalizeBackup(vmId: string, id: string): void {
    const vm = this.#vm(vmId);
    const backup = vm.backups.find((b) => b.id === id);
    if (!backup || backup.stopping || ['finalizing', ...finalBackup].includes(backup.phase)) return;
    if ([...this.transfersById.values()].some((t) => t.backupId === id && !finalTransfer.includes(t.phase)))
      throw conflict('Cannot stop backup: active image transfer');
    if (backup.phase !== 'ready') {
      this.#failBackup(vm, backup);
      throw refused(400, 'premature stop');
    }
    backup.stopping = true;
    if (backup.mode !== 'hybrid') backup.phase = 'finalizing';
    this.#later(() => {
      backup.phase = 'finalizing';
      this.#later(() => {
        const snapshot = vm.snapshots.find((s) => s.id === backup.snapshotId);
        if (snapshot) this.#merge(vm, snapshot);
        this.#unlock(backup);
        backup.phase = 'succeeded';
      });
    });
  }

  #failBackup(vm: FakeVm, backup: FakeBackup): void {
    backup.phase = 'failed';
    vm.checkpoints = vm.checkpoints.filter((c) => c.id !== backup.toCheckpointId);
    const snapshot = vm.snapshots.find((s) => s.id === backup.snapshotId);
    backup.snapshotId = undefined;
    if (snapshot) this.#merge(vm, snapshot);
    this.#unlock(backup);
  }

  #unlock(backup: FakeBackup): void {
    if (backup.mode === 'hybrid') return;
    for (const { id } of backup.disks) {
      const disk = this.disksById.get(id);
      if (disk) disk.status = 'ok';
    }
  }

  #merge(vm: FakeVm, snapshot: Mutable<Snapshot>): void {
    if (snapshot.status === 'locked' && vm.backups.every((b) => finalBackup.includes(b.phase))) return;
    snapshot.status = 'locked';
    this.#later(() => {
      if (this.failingMerges > 0) {
        this.failingMerges -= 1;
        snapshot.status = 'ok';
      } else {
        vm.snapshots = vm.snapshots.filter((s) => s !== snapshot);
      }
    });
  }

  #createTransfer(body: NewTransfer): ImageTransfer {
    const disk = this.disksById.get(body.diskId ?? '');
    if (!disk) throw EngineErrors.ENGINE_NOT_FOUND({ what: 'disk' });
    const owner = [...this.vmsById.values()].find((v) => v.backups.some((b) => b.id === body.backupId));
    const backup = owner?.backups.find((b) => b.id === body.backupId);
    if (body.backupId !== undefined && backup?.phase !== 'ready') throw conflict('backup is not ready');
    if (!backup && disk.status !== 'ok') throw conflict('disk is locked');
    const incremental = backup?.disks.find((d) => d.id === disk.id)?.backupMode === 'incremental';
    const transfer: FakeTransfer = {
      id: randomUUID(),
      phase: 'initializing',
      direction: body.direction,
      diskId: disk.id,
      hostId: 'h1',
      active: false,
      transferredBytes: 0,
      transferUrl: undefined,
      proxyUrl: undefined,
      backupId: body.backupId,
      incremental,
    };
    this.transfersById.set(transfer.id, transfer);
    if (backup?.mode !== 'hybrid') disk.status = 'locked';
    let broken = incremental && this.brokenBitmaps.has(`${disk.id}/${backup?.fromCheckpointId}`);
    if (this.failingTransfers > 0) {
      this.failingTransfers -= 1;
      broken = true;
    }
    this.#later(() => {
      if (transfer.phase !== 'initializing') return;
      if (broken) {
        transfer.phase = 'cancelled_system';
        this.#later(() => this.#settleTransfer(transfer, 'finished_failure'));
        return;
      }
      transfer.phase = 'transferring';
      transfer.transferUrl = new Secret(`https://host1:54322/images/${transfer.id}`);
      transfer.proxyUrl = new Secret(`https://engine:54323/images/${transfer.id}`);
    });
    return view(transfer);
  }

  #endTransfer(id: string, wanted: 'finalizing_success' | 'finalizing_cleanup'): void {
    const transfer = this.transfersById.get(id);
    if (!transfer || finalTransfer.includes(transfer.phase)) return;
    transfer.phase = wanted;
    transfer.transferUrl = undefined;
    transfer.proxyUrl = undefined;
    const tick = () => {
      if (transfer.phase !== wanted) return;
      if (this.ticketsStuck) return this.#later(tick);
      if (wanted === 'finalizing_success') return this.#settleTransfer(transfer, 'finished_success');
      transfer.phase = 'finished_cleanup';
      this.#later(() => this.#settleTransfer(transfer, 'finished_failure'));
    };
    this.#later(tick);
  }

  #settleTransfer(transfer: FakeTransfer, phase: 'finished_success' | 'finished_failure'): void {
    transfer.phase = phase;
    const disk = this.disksById.get(transfer.diskId ?? '');
    if (!disk) return;
    if (transfer.direction === 'upload' && phase === 'finished_failure') {
      disk.status = 'illegal';
      this.#later(() => this.disksById.delete(disk.id));
    } else {
      disk.status = 'ok';
    }
  }

  async *#pages(options: { search?: string }): AsyncGenerator<readonly Disk[], void, undefined> {
    await Promise.resolve();
    const wanted = /^alias=\*(.*)\*$/.exec(options.search ?? '')?.[1] ?? '';
    yield [...this.disksById.values()].filter((d) => d.name.includes(wanted)).map((d) => ({ ...d }));
  }

  #later(work: () => void): void {
    void this.clock.sleep(this.stepMs).then(work);
  }

  #unusable(vmId: string, body: NewBackup, detail: string) {
    return EngineErrors.ENGINE_CHECKPOINT_UNUSABLE({ vmId, checkpointId: body.fromCheckpointId ?? '', detail });
  }

  #vm(id: string): FakeVm {
    const found = this.vmsById.get(id);
    if (!found) throw EngineErrors.ENGINE_NOT_FOUND({ what: `vms/${id}` });
    return found;
  }

  #view(found: FakeVm): Vm;
  #view(found: FakeVm | undefined): Vm | undefined;
  #view(found: FakeVm | undefined): Vm | undefined {
    return (
      found && {
        ...found.vm,
        diskAttachments: found.attachments.map((a) => ({ ...a, disk: copy(this.disksById.get(a.diskId)) })),
        nics: found.nics,
        tags: found.tags.map((name) => ({ id: name, name })),
        snapshots: found.snapshots.map((s) => ({ ...s })),
      }
    );
  }

  #cluster() {
    return { id: 'cluster1', name: 'Default', dataCenterId: 'dc1', version: this.level, architecture: 'x86_64', biosType: undefined };
  }

  #domain(id: string) {
    const domain = this.domains.get(id);
    return (
      domain && {
        id,
        name: id,
        type: 'data',
        ...domain,
        availableBytes: 10 ** 13,
        usedBytes: 0,
        criticalFreeBytes: 0,
        backup: false,
        dataCenterIds: ['dc1'],
      }
    );
  }
}

function refused(httpStatus: number, detail: string) {
  return EngineErrors.ENGINE_REFUSED({ operation: 'POST', httpStatus, detail });
}

function conflict(detail: string) {
  return EngineErrors.ENGINE_CONFLICT({ operation: 'POST', detail }, { retryDelayMs: 5000 });
}

function copy<T extends object>(value: T | undefined): T | undefined {
  return value && { ...value };
}

function view(transfer: FakeTransfer): ImageTransfer {
  return { ...transfer };
}
