import { rmSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { formatGuestDisk } from '../images/guest-disk';
import type { KeyAndCertificate } from './pki';
import { summarizeBitmaps } from './bitmap-chain';
import {
  type BackupStart,
  type DiskChain,
  HostError,
  type HostFleet,
  type ImageioEndpoint,
  type NbdExport,
  type Ticket,
  type TicketState,
  type VmDisk,
  type VmRunState,
  type VmSpec,
  type VolumeFormat,
  type VolumeId,
  type VolumeSpec,
} from './driver';
import { ImageioDaemon, type ImageioPlace } from './imageio';
import type { GuestNetworks } from './guest-networks';
import { Guests } from './guests';
import { liveBackupExport, startLiveBackup, stopLiveBackup } from './live-backup';
import { createLiveSnapshot, mergeLiveVolume } from './live-layers';
import { Machines } from './machines';
import { NbdServers, type NbdStart } from './nbd';
import { FleetPaths } from './paths';
import { killMs, ProcessRegistry } from './processes';
import { runTool } from './qemu-img';
import { Serial } from './serial';
import { dumpLiveDisk, writeToDisk } from './live-writes';
import type { VirtualMachine } from './virtual-machine';
import type { WorkerProgram } from './worker-process';
import type { DiskState, GuestBoot } from './vm-layout';
import { VolumeStore, requireLeaf } from './volumes';

/**
 * The real hosts behind the simulated engine: qemu, qemu-nbd and ovirt-imageio processes on this machine, and the files of the storage
 * domains. Owns the processes, their sockets and their records; must not know of the engine's entities, states or locks. The files it
 * writes are described in paths.ts, processes.ts and virtual-machine.ts.
 *
 * The processes outlive this object and this process. A new fleet over the same directory takes them over: VMs and servers that still
 * run are adopted, half-made backups and layer changes undone, left-over files and processes removed.
 */
export interface HostFleetOptions {
  readonly dataDir: string;
  /** A Python environment that has ovirt-imageio. */
  readonly pythonVenvDir: string;
  readonly hosts: readonly ImageioPlace[];
  readonly proxy: Omit<ImageioPlace, 'id'>;
  /** Signs the daemons' certificates. */
  readonly ca: KeyAndCertificate;
  /** Kernel and initramfs of the `linux` guest; made on demand when first needed. */
  readonly guest: () => Promise<GuestBoot>;
  /** What a VM with guest `process` runs. */
  readonly worker?: WorkerProgram;
  /** Where hosts and guests stand; loopback and nowhere otherwise. */
  readonly networks?: GuestNetworks;
  readonly log: (level: 'info' | 'warn', message: string) => void;
}

export interface RunningHostFleet extends HostFleet {
  /**
   * Lets go of every process without ending any, for a lab that restarts within its own process: a monitor takes one client only, so the
   * next fleet could not adopt the VMs while this one is attached. The object is of no use afterwards.
   */
  detach(): Promise<void>;
}

export function createHostFleet(options: HostFleetOptions): RunningHostFleet {
  return new RealHostFleet(options);
}

class RealHostFleet implements RunningHostFleet {
  readonly #paths: FleetPaths;
  readonly #processes: ProcessRegistry;
  readonly #volumes: VolumeStore;
  readonly #nbd: NbdServers;
  readonly #daemons: ReadonlyMap<string, ImageioDaemon>;
  readonly #machines: Machines;
  readonly #guests: Guests;
  readonly #serial = new Serial();
  readonly #adopted: Promise<void>;

  constructor(readonly options: HostFleetOptions) {
    this.#paths = new FleetPaths(options.dataDir);
    this.#processes = new ProcessRegistry(this.#paths);
    this.#volumes = new VolumeStore(this.#paths);
    this.#machines = new Machines(this.#paths, this.#processes, options.log);
    this.#guests = new Guests({
      machines: this.#machines,
      paths: this.#paths,
      processes: this.#processes,
      linuxGuest: options.guest,
      worker: options.worker,
      networks: options.networks,
      log: options.log,
    });
    this.#nbd = new NbdServers(this.#paths, this.#processes, this.#volumes);
    const places = [...options.hosts, { ...options.proxy, id: 'proxy' }];
    this.#daemons = new Map(
      places.map((place) => [
        place.id,
        new ImageioDaemon(place, this.#paths, this.#processes, options.pythonVenvDir, options.ca, options.networks?.enter(place.id) ?? []),
      ]),
    );
    this.#adopted = this.#adopt();
    this.#adopted.catch(() => undefined); // every call awaits it and tells its own caller
  }

  // --- hosts ---------------------------------------------------------------------------------------------------------------------

  async startHost(hostId: string): Promise<ImageioEndpoint> {
    return await this.#forImageio(hostId, async (daemon) => await daemon.start());
  }

  async startProxy(): Promise<ImageioEndpoint> {
    return await this.startHost('proxy');
  }

  async killHost(hostId: string): Promise<void> {
    await this.#adopted;
    const names = this.#processes.records('').filter((record) => record.hostId === hostId);
    // All at once, as a power cut does.
    for (const { name } of names) this.#processes.signal(name, 'SIGKILL');
    for (const { name } of names) await this.#processes.stop(name, 'SIGKILL', killMs);
  }

  async killImageio(hostId: string): Promise<void> {
    await this.#forImageio(hostId, async (daemon) => await daemon.kill());
  }

  async stallImageio(hostId: string, stalled: boolean): Promise<void> {
    await this.#adopted;
    this.#daemon(hostId).stall(stalled);
  }

  async stallHost(hostId: string, stalled: boolean): Promise<void> {
    await this.#adopted;
    for (const { name, hostId: owner } of this.#processes.records('')) {
      if (owner === hostId) this.#processes.signal(name, stalled ? 'SIGSTOP' : 'SIGCONT');
    }
  }

  async stallVm(vmId: string, stalled: boolean): Promise<void> {
    await this.#adopted;
    this.#guests.stall(vmId, stalled);
  }

  // --- volumes -------------------------------------------------------------------------------------------------------------------

  async createVolume(spec: VolumeSpec): Promise<void> {
    await this.#adopted;
    await this.#volumes.create(spec);
  }

  async deleteVolume(volume: VolumeId): Promise<void> {
    await this.#adopted;
    if (this.#machines.withLayer(volume) !== undefined) throw new HostError('VM_RUNNING', `Volume ${volume.volumeId} is in use by a VM.`);
    await this.#volumes.delete(volume);
  }

  async copyVolume(source: DiskChain, target: Parameters<HostFleet['copyVolume']>[1]): Promise<void> {
    await this.#adopted;
    this.#refuseLiveLeaf(source);
    await this.#serial.run(`disk ${source.diskId}`, async () => await this.#volumes.copy(source, target));
  }

  async volumeActualBytes(volume: VolumeId): Promise<number> {
    return await this.#volumes.actualBytes(volume);
  }

  async verifyVolume(volume: VolumeId, format: VolumeFormat): Promise<void> {
    await this.#volumes.verify(volume, format);
  }

  async resizeVolume(volume: VolumeId, virtualSizeBytes: number): Promise<void> {
    await this.#adopted;
    const found = this.#machines.withLayer(volume);
    if (found !== undefined)
      await this.#serial.run(found.machine.vmId, async () => await found.machine.resize(found.disk, virtualSizeBytes));
    else await this.#volumes.resize(volume, await this.#volumes.format(volume), virtualSizeBytes);
  }

  async freeBytes(domainId: string): Promise<number> {
    return await this.#volumes.freeBytes(domainId);
  }

  async volumeFileUrl(volume: VolumeId): Promise<string> {
    return pathToFileURL(await this.#volumes.requireFile(volume)).href;
  }

  async formatGuestDisk(disk: DiskChain, options: { seed: number; filesBytes: number }): Promise<void> {
    await this.#adopted;
    const leaf = requireLeaf(disk);
    if (this.#machines.withLayer(leaf) !== undefined) throw new HostError('VM_RUNNING', `Disk ${disk.diskId} is in use by a VM.`);
    const scratch = this.#paths.scratch(`format-${leaf.volumeId}`);
    await formatGuestDisk({
      file: await this.#volumes.requireFile(leaf),
      format: leaf.format,
      sizeBytes: disk.virtualSizeBytes,
      scratch,
      ...options,
    });
  }

  // --- virtual machines ------------------------------------------------------------------------------------------------------------

  async startVm(hostId: string, spec: VmSpec): Promise<void> {
    await this.#onMachine(spec.vmId, async () => await this.#guests.start(hostId, spec));
  }

  async stopVm(vmId: string, graceful: boolean): Promise<void> {
    await this.#adopted;
    // A kill does not wait for work under way on the VM; that work then fails by itself.
    if (!graceful) await this.#machines.find(vmId)?.stop(false);
    await this.#onMachine(vmId, async () => await this.#guests.stop(vmId, graceful));
  }

  async shutdownVm(vmId: string, timeoutMs: number): Promise<boolean> {
    await this.#adopted;
    // Beside the VM's other work: a kill must be able to overtake it.
    if (!(await this.#guests.shutdown(vmId, timeoutMs))) return false;
    await this.stopVm(vmId, true);
    return true;
  }

  async guestInterfaces(vmId: string): ReturnType<HostFleet['guestInterfaces']> {
    await this.#adopted;
    return await this.#guests.interfaces(vmId);
  }

  async vmState(vmId: string): Promise<VmRunState> {
    await this.#adopted;
    const machine = this.#machines.find(vmId);
    if (machine !== undefined) {
      try {
        return await machine.runState();
      } catch (error) {
        // A monitor that was just closed belongs to a process that is about to be gone.
        const isEnding = error instanceof HostError && error.code === 'VM_NOT_RUNNING';
        if (!(isEnding && (await this.#processes.waitForEnd(machine.processName, killMs))) && this.#processes.isAlive(machine.processName))
          throw error;
      }
    }
    return this.#machines.pastState(vmId);
  }

  async consoleText(vmId: string): Promise<string> {
    return (await this.#requireMachine(vmId)).consoleText();
  }

  onVmExit(listener: (vmId: string) => void): void {
    this.#machines.onExit(listener);
  }

  async hotplugDisk(vmId: string, disk: VmDisk): Promise<void> {
    await this.#onMachine(vmId, async () => await (await this.#requireMachine(vmId)).hotplug(disk));
  }

  async hotunplugDisk(vmId: string, diskId: string): Promise<void> {
    await this.#onMachine(vmId, async () => await (await this.#requireMachine(vmId)).hotunplug(diskId));
  }

  async freeze(vmId: string): Promise<void> {
    const machine = await this.#requireMachine(vmId);
    if ((await machine.agent<string>('guest-fsfreeze-status')) !== 'frozen') await machine.agent('guest-fsfreeze-freeze');
  }

  async thaw(vmId: string): Promise<void> {
    await (await this.#requireMachine(vmId)).agent('guest-fsfreeze-thaw');
  }

  async writeBlocks(vmId: string, diskId: string, write: Parameters<HostFleet['writeBlocks']>[2]): Promise<void> {
    const machine = await this.#requireMachine(vmId);
    // Beside the VM's other work, but one at a time: qemu's answer comes on an output that all share.
    await this.#serial.run(`write ${vmId}`, async () => await writeToDisk(machine, diskId, write));
  }

  // --- live backups ----------------------------------------------------------------------------------------------------------------

  async startLiveBackup(start: BackupStart): Promise<void> {
    await this.#onMachine(start.vmId, async () => {
      await startLiveBackup(await this.#requireMachine(start.vmId), start, (message) => this.options.log('warn', message));
    });
  }

  async liveBackupExport(backupId: string, diskId: string): Promise<NbdExport> {
    await this.#adopted;
    const backup = this.#machines.ofBackup(backupId)?.state.backup;
    if (backup === undefined) throw new HostError('NOT_FOUND', `No live backup ${backupId}.`);
    return liveBackupExport(backup, diskId);
  }

  async stopLiveBackup(backupId: string, keepBitmaps: boolean): Promise<void> {
    await this.#adopted;
    const vmId = this.#machines.ofBackup(backupId)?.vmId;
    if (vmId === undefined) return; // ended before, or its VM died; then startVm or stopVm clears what is left
    await this.#onMachine(vmId, async () => {
      const machine = this.#machines.ofBackup(backupId);
      if (machine !== undefined) await stopLiveBackup(machine, keepBitmaps);
    });
  }

  // --- bitmaps -----------------------------------------------------------------------------------------------------------------------

  async addColdBitmaps(disks: readonly DiskChain[], checkpointId: string): Promise<void> {
    await this.#adopted;
    for (const disk of disks) await this.#volumes.addBitmap(disk, checkpointId);
  }

  async removeBitmaps(disks: readonly DiskChain[], checkpointId: string): Promise<void> {
    for (const disk of disks) {
      await this.#onDisk(
        disk,
        async (machine, live) => await machine.removeBitmap(live, checkpointId),
        async () => await this.#volumes.removeBitmap(disk, checkpointId),
      );
    }
  }

  async clearBitmaps(disk: DiskChain): Promise<void> {
    await this.#onDisk(
      disk,
      async (machine, live) => {
        const names = new Set((await machine.layerBitmaps(live)).flat().map((bitmap) => bitmap.name));
        for (const name of names) await machine.removeBitmap(live, name);
      },
      async () => await this.#volumes.clearBitmaps(disk),
    );
  }

  async listBitmaps(disk: DiskChain): Promise<readonly { name: string; consistent: boolean; recording: boolean }[]> {
    return await this.#onDisk(
      disk,
      async (machine, live) => summarizeBitmaps(await machine.layerBitmaps(live, requireLeaf(disk))),
      async () => summarizeBitmaps(await this.#volumes.layerBitmaps(disk)),
    );
  }

  async damageBitmap(disk: DiskChain, checkpointId: string, how: 'remove' | 'inconsistent'): Promise<void> {
    if (how === 'remove') return await this.removeBitmaps([disk], checkpointId);
    await this.#onDisk(
      disk,
      async (machine, live) => await machine.disableBitmap(live, checkpointId),
      async () => await this.#volumes.breakBitmap(disk, checkpointId),
    );
  }

  // --- transfers ---------------------------------------------------------------------------------------------------------------------

  async startNbd(hostId: string, exportId: string, disk: DiskChain, options: NbdStart): Promise<NbdExport> {
    return await this.#onExport(exportId, async () => {
      this.#refuseLiveLeaf(disk);
      return await this.#nbd.start(hostId, exportId, disk, options);
    });
  }

  async stopNbd(exportId: string): Promise<void> {
    await this.#onExport(exportId, async () => await this.#nbd.stop(exportId));
  }

  async putTicket(where: string, ticket: Ticket): Promise<void> {
    await this.#daemon(where).putTicket(ticket);
  }

  async ticket(where: string, uuid: string): Promise<TicketState | undefined> {
    return await this.#daemon(where).ticket(uuid);
  }

  async extendTicket(where: string, uuid: string, timeoutSeconds: number): Promise<void> {
    await this.#daemon(where).extendTicket(uuid, timeoutSeconds);
  }

  async removeTicket(where: string, uuid: string): Promise<void> {
    await this.#daemon(where).removeTicket(uuid);
  }

  // --- layers --------------------------------------------------------------------------------------------------------------------------

  async createSnapshot(vmId: string | undefined, disks: Parameters<HostFleet['createSnapshot']>[1]): Promise<void> {
    await this.#adopted;
    if (vmId === undefined || this.#machines.find(vmId) === undefined) return await this.#volumes.snapshot(disks);
    await this.#onMachine(vmId, async () => await createLiveSnapshot(await this.#requireMachine(vmId), this.#volumes, disks));
  }

  async mergeVolume(vmId: string | undefined, disk: DiskChain, top: VolumeId): Promise<void> {
    await this.#adopted;
    const machine = vmId === undefined ? undefined : this.#machines.find(vmId);
    const live = machine?.state.disks.some(({ diskId }) => diskId === disk.diskId) === true;
    if (machine === undefined || !live)
      return await this.#serial.run(`disk ${disk.diskId}`, async () => await this.#volumes.merge(disk, top));
    await this.#onMachine(machine.vmId, async () => await mergeLiveVolume(machine, this.#volumes, disk, top));
  }

  async dumpDisk(disk: DiskChain, file: string): Promise<void> {
    await this.#adopted;
    const leaf = requireLeaf(disk);
    const found = this.#machines.withLeaf(leaf);
    if (found === undefined) return await this.#volumes.dump(disk, file);
    rmSync(file, { force: true });
    await this.#serial.run(found.machine.vmId, async () => await dumpLiveDisk(found.machine, found.disk, disk.virtualSizeBytes, file));
  }

  async dumpExport(exported: NbdExport, file: string): Promise<void> {
    rmSync(file, { force: true });
    await runTool('qemu-img', ['convert', '-q', '-f', 'raw', '-O', 'raw', exported.url, file]);
  }

  async close(): Promise<void> {
    await this.#adopted;
    await Promise.all(this.#machines.ids().map(async (vmId) => await this.stopVm(vmId, true)));
    await Promise.all(this.#nbd.exportIds().map(async (exportId) => await this.stopNbd(exportId)));
    await Promise.all([...this.#daemons.values()].map(async (daemon) => await daemon.stop()));
    rmSync(this.#paths.socketDir, { recursive: true, force: true });
  }

  async detach(): Promise<void> {
    await this.#adopted;
    this.#guests.detach();
    this.#machines.detach();
  }

  // --- inside ------------------------------------------------------------------------------------------------------------------------

  async #adopt(): Promise<void> {
    const killed = this.#processes.sweepUnrecorded();
    if (killed > 0) this.options.log('warn', `${killed} processes without a record were killed.`);
    await this.#processes.waitForTools(60_000);
    this.#nbd.sweep();
    await this.#machines.adopt();
    await this.#guests.adopt();
    await this.#machines.sweepScratch(this.#nbd.scratchFiles());
  }

  async #requireMachine(vmId: string): Promise<VirtualMachine> {
    await this.#adopted;
    return this.#machines.require(vmId);
  }

  /** qemu's file locks would refuse it too, but only when another qemu opens the file. */
  #refuseLiveLeaf(disk: DiskChain): void {
    const found = this.#machines.withLeaf(requireLeaf(disk));
    if (found !== undefined && !found.disk.readOnly)
      throw new HostError('VM_RUNNING', `Disk ${disk.diskId} is written to by VM ${found.machine.vmId}.`);
  }

  #daemon(hostId: string): ImageioDaemon {
    const daemon = this.#daemons.get(hostId);
    if (daemon === undefined) throw new HostError('NOT_FOUND', `No host ${hostId}.`);
    return daemon;
  }

  async #forImageio<T>(hostId: string, work: (daemon: ImageioDaemon) => Promise<T>): Promise<T> {
    await this.#adopted;
    return await this.#serial.run(`imageio ${hostId}`, async () => await work(this.#daemon(hostId)));
  }

  async #onMachine<T>(vmId: string, work: () => Promise<T>): Promise<T> {
    await this.#adopted;
    return await this.#serial.run(vmId, work);
  }

  async #onExport<T>(exportId: string, work: () => Promise<T>): Promise<T> {
    await this.#adopted;
    return await this.#serial.run(`nbd ${exportId}`, work);
  }

  async #onDisk<T>(disk: DiskChain, live: (machine: VirtualMachine, disk: DiskState) => Promise<T>, stopped: () => Promise<T>): Promise<T> {
    await this.#adopted;
    const found = this.#machines.withLayer(requireLeaf(disk));
    if (found === undefined) return await this.#serial.run(`disk ${disk.diskId}`, stopped);
    return await this.#serial.run(found.machine.vmId, async () => await live(found.machine, found.disk));
  }
}
