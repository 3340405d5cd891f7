/**
 * In-memory {@link HostFleet} for the engine's unit tests: no process, no file, no time of its own.
 *
 * It keeps what the engine's rules depend on: which volumes exist, which bitmaps each of them carries and whether they
 * are usable, which virtual machines run, which exports and tickets are open. It records every call, and fails the next
 * call of a method on demand. It must not know anything of the engine.
 */
import { pathToFileURL } from 'node:url';
import type {
  BackupStart,
  DiskChain,
  GuestInterface,
  HostFleet,
  ImageioEndpoint,
  NbdExport,
  Ticket,
  TicketState,
  VmDisk,
  VmRunState,
  VmSpec,
  VolumeFormat,
  VolumeId,
  VolumeSpec,
} from '../../hosts/driver';
import { HostError } from '../../hosts/driver';

interface FakeBitmap {
  consistent: boolean;
  recording: boolean;
  /** Written to the image file: survives a crash as inconsistent; one that was never stored is simply gone. */
  stored: boolean;
}

interface FakeVolume {
  readonly spec: VolumeSpec;
  sizeBytes: number;
  readonly bitmaps: Map<string, FakeBitmap>;
}

interface FakeVm {
  readonly hostId: string;
  readonly disks: Map<string, VmDisk>;
  state: VmRunState;
}

interface FakeTicket {
  readonly ticket: Ticket;
  state: { active: boolean; canceled: boolean; idleSeconds: number; expiresInSeconds: number; transferredBytes: number | undefined };
  busy: boolean;
}

export interface FleetCall {
  readonly method: string;
  readonly args: readonly unknown[];
}

const key = (volume: VolumeId): string => `${volume.domainId}/${volume.diskId}/${volume.volumeId}`;

export class FakeFleet implements HostFleet {
  readonly calls: FleetCall[] = [];
  readonly volumes = new Map<string, FakeVolume>();
  readonly vms = new Map<string, FakeVm>();
  readonly backups = new Map<string, BackupStart>();
  readonly exports = new Map<string, { readonly hostId: string; readonly disk: DiskChain; readonly bitmap: string | undefined }>();
  readonly tickets = new Map<string, FakeTicket>();
  readonly freeByDomain = new Map<string, number>();
  readonly guestNetworks = new Map<string, readonly GuestInterface[]>();
  readonly ignoresShutdown = new Set<string>();
  private readonly failures = new Map<string, HostError[]>();
  private readonly exitListeners: ((vmId: string) => void)[] = [];
  private readonly gates = new Map<string, Promise<void>>();

  /** The next `times` calls of `method` reject with `code`. */
  failNext(method: keyof HostFleet, code: HostError['code'], times = 1): void {
    const queue = this.failures.get(method) ?? [];
    for (let n = 0; n < times; n += 1) queue.push(new HostError(code, `${method} was told to fail`));
    this.failures.set(method, queue);
  }

  /** Calls of `method` wait until the returned function is called. */
  hold(method: keyof HostFleet): () => void {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.gates.set(method, gate);
    return () => {
      this.gates.delete(method);
      open();
    };
  }

  countOf(method: keyof HostFleet): number {
    return this.calls.filter((call) => call.method === method).length;
  }

  /** What a crash of the qemu process does: stored bitmaps turn inconsistent, new ones are lost, backups end. */
  crashVm(vmId: string): void {
    this.endVm(vmId, false);
    for (const listener of this.exitListeners) listener(vmId);
  }

  setTicket(where: string, uuid: string, change: Partial<FakeTicket['state']> & { busy?: boolean }): void {
    const entry = this.tickets.get(`${where}/${uuid}`);
    if (entry === undefined) throw new HostError('NOT_FOUND', `no ticket ${uuid} at ${where}`);
    const { busy, ...state } = change;
    if (busy !== undefined) entry.busy = busy;
    Object.assign(entry.state, state);
  }

  /** What a restart of the image daemon does. */
  forgetTickets(where: string): void {
    for (const name of [...this.tickets.keys()]) if (name.startsWith(`${where}/`)) this.tickets.delete(name);
  }

  bitmapsOf(volume: VolumeId): string[] {
    return [...(this.volumes.get(key(volume))?.bitmaps.keys() ?? [])];
  }

  async startHost(hostId: string): Promise<ImageioEndpoint> {
    await this.record('startHost', [hostId]);
    return { baseUrl: `https://${hostId}.lab:54322` };
  }

  async killHost(hostId: string): Promise<void> {
    await this.record('killHost', [hostId]);
    this.forgetTickets(hostId);
    for (const [name, entry] of [...this.exports]) if (entry.hostId === hostId) this.exports.delete(name);
    for (const [vmId, vm] of [...this.vms]) if (vm.hostId === hostId) this.crashVm(vmId);
  }

  async killImageio(hostId: string): Promise<void> {
    await this.record('killImageio', [hostId]);
    this.forgetTickets(hostId);
  }

  async stallImageio(hostId: string, stalled: boolean): Promise<void> {
    await this.record('stallImageio', [hostId, stalled]);
  }

  async stallHost(hostId: string, stalled: boolean): Promise<void> {
    await this.record('stallHost', [hostId, stalled]);
  }

  async stallVm(vmId: string, stalled: boolean): Promise<void> {
    await this.record('stallVm', [vmId, stalled]);
  }

  async startProxy(): Promise<ImageioEndpoint> {
    await this.record('startProxy', []);
    return { baseUrl: 'https://engine.lab:54323' };
  }

  async createVolume(spec: VolumeSpec): Promise<void> {
    await this.record('createVolume', [spec]);
    const bitmaps = new Map<string, FakeBitmap>();
    if (spec.parent !== undefined) {
      for (const [name, bitmap] of this.volume(spec.parent).bitmaps) if (bitmap.consistent) bitmaps.set(name, { ...bitmap });
    }
    this.volumes.set(key(spec), { spec, sizeBytes: spec.virtualSizeBytes, bitmaps });
  }

  async deleteVolume(volume: VolumeId): Promise<void> {
    await this.record('deleteVolume', [volume]);
    this.volumes.delete(key(volume));
  }

  async copyVolume(source: DiskChain, target: Omit<VolumeSpec, 'parent'>): Promise<void> {
    await this.record('copyVolume', [source, target]);
    this.leafOf(source);
    this.volumes.set(key(target), { spec: target, sizeBytes: target.virtualSizeBytes, bitmaps: new Map() });
  }

  async volumeActualBytes(volume: VolumeId): Promise<number> {
    await this.record('volumeActualBytes', [volume]);
    this.volume(volume);
    return 196_608;
  }

  async verifyVolume(volume: VolumeId, format: VolumeFormat): Promise<void> {
    await this.record('verifyVolume', [volume, format]);
    this.volume(volume);
  }

  async resizeVolume(volume: VolumeId, virtualSizeBytes: number): Promise<void> {
    await this.record('resizeVolume', [volume, virtualSizeBytes]);
    this.volume(volume).sizeBytes = virtualSizeBytes;
  }

  async freeBytes(domainId: string): Promise<number> {
    await this.record('freeBytes', [domainId]);
    return this.freeByDomain.get(domainId) ?? 1024 ** 4;
  }

  /** Any file that exists will do: its length stands for the volume's. */
  async volumeFileUrl(volume: VolumeId): Promise<string> {
    await this.record('volumeFileUrl', [volume]);
    this.volume(volume);
    return pathToFileURL(__filename).href;
  }

  async formatGuestDisk(disk: DiskChain, options: { seed: number; filesBytes: number }): Promise<void> {
    await this.record('formatGuestDisk', [disk, options]);
    this.leafOf(disk);
  }

  async startVm(hostId: string, spec: VmSpec): Promise<void> {
    await this.record('startVm', [hostId, spec]);
    if (this.vms.has(spec.vmId)) throw new HostError('VM_RUNNING', `${spec.name} runs`);
    for (const disk of spec.disks) this.leafOf(disk);
    this.vms.set(spec.vmId, { hostId, disks: new Map(spec.disks.map((disk) => [disk.diskId, disk])), state: 'up' });
  }

  async stopVm(vmId: string, graceful: boolean): Promise<void> {
    await this.record('stopVm', [vmId, graceful]);
    this.endVm(vmId, graceful);
  }

  async shutdownVm(vmId: string, timeoutMs: number): Promise<boolean> {
    await this.record('shutdownVm', [vmId, timeoutMs]);
    if (this.ignoresShutdown.has(vmId)) return false;
    this.endVm(vmId, true);
    return true;
  }

  async guestInterfaces(vmId: string): Promise<readonly GuestInterface[] | undefined> {
    await this.record('guestInterfaces', [vmId]);
    return this.guestNetworks.get(vmId);
  }

  async vmState(vmId: string): Promise<VmRunState> {
    await this.record('vmState', [vmId]);
    return this.vms.get(vmId)?.state ?? 'absent';
  }

  async consoleText(vmId: string): Promise<string> {
    await this.record('consoleText', [vmId]);
    return '';
  }

  onVmExit(listener: (vmId: string) => void): void {
    this.exitListeners.push(listener);
  }

  async hotplugDisk(vmId: string, disk: VmDisk): Promise<void> {
    await this.record('hotplugDisk', [vmId, disk]);
    this.leafOf(disk);
    this.running(vmId).disks.set(disk.diskId, disk);
  }

  async hotunplugDisk(vmId: string, diskId: string): Promise<void> {
    await this.record('hotunplugDisk', [vmId, diskId]);
    this.running(vmId).disks.delete(diskId);
  }

  async freeze(vmId: string): Promise<void> {
    await this.record('freeze', [vmId]);
    this.running(vmId);
  }

  async thaw(vmId: string): Promise<void> {
    await this.record('thaw', [vmId]);
    this.running(vmId);
  }

  async writeBlocks(...args: Parameters<HostFleet['writeBlocks']>): Promise<void> {
    await this.record('writeBlocks', args);
    this.running(args[0]);
  }

  async startLiveBackup(start: BackupStart): Promise<void> {
    await this.record('startLiveBackup', [start]);
    const vm = this.running(start.vmId);
    for (const disk of start.disks) {
      const chain = vm.disks.get(disk.diskId);
      if (chain === undefined) throw new HostError('NOT_FOUND', `${disk.diskId} is not plugged`);
      if (disk.mode === 'incremental') this.requireBitmap(chain, start.fromCheckpointId ?? '');
    }
    for (const disk of start.disks) {
      const chain = vm.disks.get(disk.diskId);
      if (disk.addBitmap && chain !== undefined && start.toCheckpointId !== undefined) {
        this.leafOf(chain).bitmaps.set(start.toCheckpointId, { consistent: true, recording: true, stored: false });
      }
    }
    this.backups.set(start.backupId, start);
  }

  async liveBackupExport(backupId: string, diskId: string): Promise<NbdExport> {
    await this.record('liveBackupExport', [backupId, diskId]);
    const backup = this.backups.get(backupId);
    const chain = backup === undefined ? undefined : this.vms.get(backup.vmId)?.disks.get(diskId);
    if (backup === undefined || chain === undefined) throw new HostError('NOT_FOUND', `backup ${backupId} is not running`);
    const dirty = backup.disks.find((disk) => disk.diskId === diskId)?.mode === 'incremental';
    return { url: `nbd:unix:/run/${backupId}.sock:exportname=${diskId}`, sizeBytes: chain.virtualSizeBytes, dirty };
  }

  async stopLiveBackup(backupId: string, keepBitmaps: boolean): Promise<void> {
    await this.record('stopLiveBackup', [backupId, keepBitmaps]);
    const backup = this.backups.get(backupId);
    this.backups.delete(backupId);
    if (backup === undefined || keepBitmaps) return;
    for (const disk of this.vms.get(backup.vmId)?.disks.values() ?? []) this.leafOf(disk).bitmaps.delete(backup.toCheckpointId ?? '');
  }

  async addColdBitmaps(disks: readonly DiskChain[], checkpointId: string): Promise<void> {
    await this.record('addColdBitmaps', [disks, checkpointId]);
    for (const disk of disks) this.leafOf(disk).bitmaps.set(checkpointId, { consistent: true, recording: true, stored: true });
  }

  async removeBitmaps(disks: readonly DiskChain[], checkpointId: string): Promise<void> {
    await this.record('removeBitmaps', [disks, checkpointId]);
    for (const disk of disks) for (const volume of disk.chain) this.volumes.get(key(volume))?.bitmaps.delete(checkpointId);
  }

  async clearBitmaps(disk: DiskChain): Promise<void> {
    await this.record('clearBitmaps', [disk]);
    for (const volume of disk.chain) this.volumes.get(key(volume))?.bitmaps.clear();
  }

  async listBitmaps(disk: DiskChain): Promise<readonly { name: string; consistent: boolean; recording: boolean }[]> {
    await this.record('listBitmaps', [disk]);
    return [...this.leafOf(disk).bitmaps].map(([name, bitmap]) => ({ name, consistent: bitmap.consistent, recording: bitmap.recording }));
  }

  async damageBitmap(disk: DiskChain, checkpointId: string, how: 'remove' | 'inconsistent'): Promise<void> {
    await this.record('damageBitmap', [disk, checkpointId, how]);
    const bitmaps = this.leafOf(disk).bitmaps;
    if (how === 'remove') bitmaps.delete(checkpointId);
    else bitmaps.set(checkpointId, { consistent: false, recording: false, stored: true });
  }

  async startNbd(
    hostId: string,
    exportId: string,
    disk: DiskChain,
    options: { writable: boolean; bitmap?: string; shallow?: boolean; full?: boolean },
  ): Promise<NbdExport> {
    await this.record('startNbd', [hostId, exportId, disk, options]);
    this.leafOf(disk);
    if (options.bitmap !== undefined) this.requireBitmap(disk, options.bitmap);
    this.exports.set(exportId, { hostId, disk, bitmap: options.bitmap });
    return { url: `nbd:unix:/run/${exportId}.sock`, sizeBytes: disk.virtualSizeBytes, dirty: options.bitmap !== undefined };
  }

  async stopNbd(exportId: string): Promise<void> {
    await this.record('stopNbd', [exportId]);
    this.exports.delete(exportId);
  }

  async putTicket(where: string, ticket: Ticket): Promise<void> {
    await this.record('putTicket', [where, ticket]);
    const transferredBytes = ticket.ops.length === 1 ? 0 : undefined;
    const state = { active: false, canceled: false, idleSeconds: 0, expiresInSeconds: ticket.timeoutSeconds, transferredBytes };
    this.tickets.set(`${where}/${ticket.uuid}`, { ticket, state, busy: false });
  }

  async ticket(where: string, uuid: string): Promise<TicketState | undefined> {
    await this.record('ticket', [where, uuid]);
    const entry = this.tickets.get(`${where}/${uuid}`);
    return entry === undefined ? undefined : { ...entry.state };
  }

  async extendTicket(where: string, uuid: string, timeoutSeconds: number): Promise<void> {
    await this.record('extendTicket', [where, uuid, timeoutSeconds]);
    const entry = this.tickets.get(`${where}/${uuid}`);
    if (entry === undefined) throw new HostError('NOT_FOUND', `no ticket ${uuid} at ${where}`);
    entry.state.expiresInSeconds = timeoutSeconds;
  }

  async removeTicket(where: string, uuid: string): Promise<void> {
    await this.record('removeTicket', [where, uuid]);
    if (this.tickets.get(`${where}/${uuid}`)?.busy === true) throw new HostError('TICKET_BUSY', `ticket ${uuid} is in use`);
    this.tickets.delete(`${where}/${uuid}`);
  }

  async createSnapshot(
    vmId: string | undefined,
    disks: readonly { disk: DiskChain; newLeaf: VolumeId; addBitmap?: string }[],
  ): Promise<void> {
    await this.record('createSnapshot', [vmId, disks]);
    for (const { disk, newLeaf, addBitmap } of disks) {
      const leaf = this.leafOf(disk);
      const bitmaps = new Map<string, FakeBitmap>();
      for (const [name, bitmap] of leaf.bitmaps) if (bitmap.consistent) bitmaps.set(name, { ...bitmap });
      if (addBitmap !== undefined) bitmaps.set(addBitmap, { consistent: true, recording: true, stored: vmId === undefined });
      const parent = disk.chain.at(-1);
      const spec: VolumeSpec = { ...newLeaf, format: 'cow', virtualSizeBytes: leaf.sizeBytes, sparse: true, ...(parent && { parent }) };
      this.volumes.set(key(newLeaf), { spec, sizeBytes: leaf.sizeBytes, bitmaps });
      const vm = vmId === undefined ? undefined : this.vms.get(vmId);
      const plugged = vm?.disks.get(disk.diskId);
      if (vm !== undefined && plugged !== undefined) {
        vm.disks.set(disk.diskId, { ...plugged, chain: [...disk.chain, { ...newLeaf, format: 'cow' }] });
      }
    }
  }

  async mergeVolume(vmId: string | undefined, disk: DiskChain, top: VolumeId): Promise<void> {
    await this.record('mergeVolume', [vmId, disk, top]);
    const index = disk.chain.findIndex((volume) => volume.volumeId === top.volumeId);
    const parent = disk.chain[index - 1];
    const upper = this.volume(top);
    if (parent === undefined) throw new HostError('QEMU_REFUSED', `${top.volumeId} has no parent`);
    const lower = this.volume(parent);
    if (lower.spec.format === 'cow') for (const [name, bitmap] of upper.bitmaps) lower.bitmaps.set(name, { ...bitmap });
    const vm = vmId === undefined ? undefined : this.vms.get(vmId);
    const plugged = vm?.disks.get(disk.diskId);
    if (vm !== undefined && plugged !== undefined) {
      vm.disks.set(disk.diskId, { ...plugged, chain: disk.chain.filter((volume) => volume.volumeId !== top.volumeId) });
    }
  }

  async dumpDisk(disk: DiskChain, file: string): Promise<void> {
    await this.record('dumpDisk', [disk, file]);
  }

  async dumpExport(exported: NbdExport, file: string): Promise<void> {
    await this.record('dumpExport', [exported, file]);
  }

  async close(): Promise<void> {
    await this.record('close', []);
  }

  private async record(method: keyof HostFleet, args: readonly unknown[]): Promise<void> {
    this.calls.push({ method, args });
    await (this.gates.get(method) ?? Promise.resolve());
    const failure = this.failures.get(method)?.shift();
    if (failure !== undefined) throw failure;
  }

  private volume(volume: VolumeId): FakeVolume {
    const found = this.volumes.get(key(volume));
    if (found === undefined) throw new HostError('NOT_FOUND', `no volume ${key(volume)}`);
    return found;
  }

  private leafOf(disk: DiskChain): FakeVolume {
    const leaf = disk.chain.at(-1);
    if (leaf === undefined) throw new HostError('NOT_FOUND', `disk ${disk.diskId} has no volume`);
    return this.volume(leaf);
  }

  private running(vmId: string): FakeVm {
    const vm = this.vms.get(vmId);
    if (vm === undefined) throw new HostError('VM_NOT_RUNNING', `vm ${vmId} is not running`);
    return vm;
  }

  /** A bitmap serves an increment only when each layer from the leaf down that was there at its time has it intact. */
  private requireBitmap(disk: DiskChain, name: string): void {
    const bitmap = this.leafOf(disk).bitmaps.get(name);
    if (bitmap === undefined) throw new HostError('BITMAP_MISSING', `no bitmap ${name} on ${disk.diskId}`);
    if (!bitmap.consistent) throw new HostError('BITMAP_INCONSISTENT', `bitmap ${name} on ${disk.diskId} is inconsistent`);
  }

  private endVm(vmId: string, graceful: boolean): void {
    const vm = this.vms.get(vmId);
    if (vm === undefined) return;
    this.vms.delete(vmId);
    for (const [backupId, backup] of [...this.backups]) if (backup.vmId === vmId) this.backups.delete(backupId);
    for (const disk of vm.disks.values()) {
      for (const layer of disk.chain) {
        const bitmaps = this.volumes.get(key(layer))?.bitmaps;
        for (const [name, bitmap] of [...(bitmaps ?? [])]) {
          if (graceful) bitmap.stored = true;
          else if (bitmap.stored) bitmap.consistent = false;
          else bitmaps?.delete(name);
        }
      }
    }
  }
}
