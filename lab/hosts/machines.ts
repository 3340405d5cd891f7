import { rmSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, sep } from 'node:path';
import { HostError, type VmSpec, type VolumeId } from './driver';
import { discardBackupFiles, stopLiveBackup } from './live-backup';
import { reconcileLayers } from './live-layers';
import { endLiveDumps } from './live-writes';
import type { FleetPaths } from './paths';
import { killMs, type ProcessRegistry } from './processes';
import { VirtualMachine, type VmState, type VmSurroundings } from './virtual-machine';
import type { DiskState } from './vm-layout';

/**
 * The running VMs of a fleet, and the taking over of those that an earlier lab left running. A VM that died by itself stays known by its
 * process record (`crashed`) until it is started or stopped.
 */
export class Machines {
  readonly #machines = new Map<string, VirtualMachine>();
  readonly #exitListeners: ((vmId: string) => void)[] = [];

  constructor(
    readonly paths: FleetPaths,
    readonly processes: ProcessRegistry,
    readonly log: (level: 'info' | 'warn', message: string) => void,
  ) {}

  onExit(listener: (vmId: string) => void): void {
    this.#exitListeners.push(listener);
  }

  ids(): string[] {
    return [...this.#machines.keys()];
  }

  find(vmId: string): VirtualMachine | undefined {
    return this.#machines.get(vmId);
  }

  require(vmId: string): VirtualMachine {
    const machine = this.#machines.get(vmId);
    if (machine === undefined) throw new HostError('VM_NOT_RUNNING', `VM ${vmId} does not run.`);
    return machine;
  }

  /** What became of a VM that does not run. */
  pastState(vmId: string): 'absent' | 'crashed' | 'ended' {
    const record = this.processes.record<VmState>(VirtualMachine.processName(vmId));
    if (record === undefined) return 'absent';
    return record.meta.poweredOff === true ? 'ended' : 'crashed';
  }

  ofBackup(backupId: string): VirtualMachine | undefined {
    return [...this.#machines.values()].find((machine) => machine.state.backup?.backupId === backupId);
  }

  withLayer(volume: VolumeId): { machine: VirtualMachine; disk: DiskState } | undefined {
    for (const machine of this.#machines.values()) {
      const disk = machine.diskWithLayer(volume);
      if (disk !== undefined) return { machine, disk };
    }
    return undefined;
  }

  /** The VM that writes to this volume. */
  withLeaf(volume: VolumeId): { machine: VirtualMachine; disk: DiskState } | undefined {
    const found = this.withLayer(volume);
    return found?.disk.layers.at(-1)?.volume.volumeId === volume.volumeId ? found : undefined;
  }

  async start(hostId: string, spec: VmSpec, surroundings: VmSurroundings): Promise<void> {
    if (this.#machines.has(spec.vmId)) throw new HostError('VM_RUNNING', `VM ${spec.vmId} runs already.`);
    await this.#forget(spec.vmId);
    this.#register(await VirtualMachine.start(hostId, spec, this.paths, this.processes, surroundings));
  }

  async stop(vmId: string, graceful: boolean): Promise<void> {
    await this.#machines.get(vmId)?.stop(graceful);
    this.#machines.delete(vmId);
    await this.#forget(vmId);
  }

  /** Gives up the monitors; the VMs run on. */
  detach(): void {
    for (const machine of this.#machines.values()) machine.detach();
    this.#machines.clear();
  }

  async adopt(): Promise<void> {
    for (const { name, meta } of this.processes.records<VmState>('vm-')) {
      if (!this.processes.isAlive(name)) {
        if (meta.backup !== undefined) await discardBackupFiles(meta.backup);
        continue;
      }
      try {
        const machine = await VirtualMachine.adopt(meta.vmId, this.paths, this.processes);
        await endLiveDumps(machine);
        await machine.thawLeftOver();
        const phase = machine.state.backup?.phase;
        if (phase !== undefined && phase !== 'ready') await stopLiveBackup(machine, phase === 'keeping');
        // Under a backup qemu refuses every change of layers, so then there is nothing to reconcile.
        if (machine.state.backup === undefined) await reconcileLayers(machine, (file) => this.#volumeOfFile(file));
        this.#register(machine);
        this.log('info', `VM ${meta.vmId} was adopted.`);
      } catch (error) {
        // A qemu that cannot be talked to is of no use to anyone, and holds its disks.
        this.log('warn', `VM ${meta.vmId} cannot be adopted and is killed: ${String(error)}`);
        await this.processes.stop(name, 'SIGKILL', killMs);
      }
    }
  }

  /** Removes scratch files that no running process uses. */
  async sweepScratch(usedFiles: readonly string[]): Promise<void> {
    const used = new Set(usedFiles.map((file) => basename(file)));
    for (const machine of this.#machines.values())
      for (const disk of machine.state.backup?.disks ?? []) used.add(basename(disk.scratchFile));
    for (const name of await readdir(this.paths.scratch('')))
      if (!used.has(name)) rmSync(this.paths.scratch(name), { recursive: true, force: true });
  }

  #register(machine: VirtualMachine): void {
    this.#machines.set(machine.vmId, machine);
    machine.onUnexpectedExit(() => {
      if (this.#machines.get(machine.vmId) === machine) this.#machines.delete(machine.vmId);
      this.log('warn', `The qemu of VM ${machine.vmId} ended.`);
      for (const listener of this.#exitListeners) listener(machine.vmId);
    });
  }

  async #forget(vmId: string): Promise<void> {
    const record = this.processes.record<VmState>(VirtualMachine.processName(vmId));
    if (record === undefined) return;
    if (record.meta.backup !== undefined) await discardBackupFiles(record.meta.backup);
    this.processes.forget(record.name);
  }

  #volumeOfFile(file: string): VolumeId | undefined {
    const storage = this.paths.domain('');
    const [domainId, images, diskId, volumeId] = file
      .slice(storage.length)
      .split(sep)
      .filter((part) => part !== '');
    if (!file.startsWith(storage) || images !== 'images' || volumeId === undefined) return undefined;
    return { domainId: domainId!, diskId: diskId!, volumeId };
  }
}
