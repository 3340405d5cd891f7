import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { LayerBitmap } from './bitmap-chain';
import { type DiskChain, HostError, type VmDisk, type VmRunState, type VmSpec, type VolumeId } from './driver';
import { guestAgentCall } from './guest-agent';
import type { TapPort } from './guest-networks';
import type { FleetPaths } from './paths';
import { killMs, type ProcessRegistry } from './processes';
import { configDriveArguments, diskGuestArguments } from './qemu-guest-disk';
import { QmpClient, QmpRefusal } from './qmp';
import { consoleFileOf } from './worker-process';
import {
  type DiskState,
  type GuestBoot,
  type VmHardware,
  diskDevice,
  diskNodes,
  diskState,
  formatOptions,
  leafOf,
  qemuArguments,
  storageNode,
  targetName,
} from './vm-layout';

/**
 * One running VM: its qemu process, the one monitor connection it allows, and what the lab must remember of it over its own restart
 * (kept in the process record): which node is which volume, and what backup is under way. Backups, changes of layers and writes are in
 * live-backup.ts, live-layers.ts and live-writes.ts; they work through this object.
 */
export interface BackupState {
  readonly backupId: string;
  /** What a lab that dies now leaves for the next one: all but `ready` is ended by it, `keeping` with the bitmaps left in place. */
  readonly phase: 'starting' | 'ready' | 'keeping' | 'dropping';
  readonly socket: string;
  readonly toCheckpointId: string | undefined;
  readonly disks: readonly {
    readonly diskId: string;
    readonly target: string;
    readonly scratchFile: string;
    readonly sizeBytes: number;
    readonly dirty: boolean;
  }[];
}

export interface VmState {
  readonly vmId: string;
  readonly guest: VmSpec['guest'];
  readonly nextTarget: number;
  readonly disks: readonly DiskState[];
  readonly backup: BackupState | undefined;
  /** Absent in records of earlier labs. */
  readonly macAddresses?: readonly string[];
  /** Its guest went off by itself. */
  readonly poweredOff?: boolean;
}

export interface NamedNode {
  readonly name: string;
  readonly driver: string;
  readonly fileName: string;
  readonly readOnly: boolean;
  readonly virtualSizeBytes: number;
  readonly bitmaps: readonly LayerBitmap[];
}

const monitorTimeoutMs = 60_000;

/** What a VM gets beside its own description. */
export interface VmSurroundings {
  /** In front of the command; see guest-networks.ts. */
  readonly enter: readonly string[];
  /** Of the `linux` guest. */
  readonly boot?: GuestBoot;
  readonly taps: readonly TapPort[];
  /** The CD, if there is one. */
  readonly isoFile?: string;
}

function hardwareOf(
  spec: VmSpec,
  directory: string,
  consoleFile: string,
  agentSocket: string,
  { boot, taps, isoFile }: VmSurroundings,
): VmHardware {
  const isDiskGuest = spec.guest === 'disk';
  const chipset = isDiskGuest ? (spec.machine?.chipset ?? 'q35') : 'i440fx';
  return {
    ...(boot === undefined ? {} : { linux: { boot, consoleFile } }),
    ...(isDiskGuest ? { disk: diskGuestArguments({ spec, directory, consoleFile, agentSocket, taps }) } : {}),
    ...(isoFile === undefined ? {} : { configDrive: configDriveArguments(isoFile, chipset) }),
  };
}

export class VirtualMachine {
  #state: VmState;
  #booted = false;
  #stopping = false;
  readonly #exitListeners: (() => void)[] = [];

  private constructor(
    readonly processName: string,
    readonly hostId: string,
    readonly monitor: QmpClient,
    readonly paths: FleetPaths,
    readonly processes: ProcessRegistry,
    state: VmState,
  ) {
    this.#state = state;
    monitor.onClose(() => this.#monitorClosed());
    monitor.onEvent(({ event, data }) => {
      if (event === 'SHUTDOWN' && data['guest'] === true) this.update({ poweredOff: true });
    });
  }

  static processName(vmId: string): string {
    return `vm-${vmId}`;
  }

  /** qemu's standard output. */
  static outputFile(paths: FleetPaths, vmId: string): string {
    return join(paths.vm(vmId), 'stdout.log');
  }

  static async start(
    hostId: string,
    spec: VmSpec,
    paths: FleetPaths,
    processes: ProcessRegistry,
    surroundings: VmSurroundings,
  ): Promise<VirtualMachine> {
    const name = VirtualMachine.processName(spec.vmId);
    const disks = spec.disks.map((disk, index) => diskState(disk, targetName(index), spec.guest, (volume) => paths.volume(volume)));
    const sockets = { monitor: paths.socket('qmp', spec.vmId), agent: paths.socket('agent', spec.vmId) };
    for (const socket of Object.values(sockets)) rmSync(socket, { force: true });
    const directory = paths.vm(spec.vmId);
    mkdirSync(directory, { recursive: true });
    const consoleFile = consoleFileOf(paths, spec.vmId);
    rmSync(consoleFile, { force: true });
    const state: VmState = {
      vmId: spec.vmId,
      guest: spec.guest,
      nextTarget: disks.length,
      disks,
      backup: undefined,
      macAddresses: spec.macAddresses,
    };
    const stderrFile = join(directory, 'stderr.log');
    await processes.start<VmState>({
      name,
      hostId,
      command: [
        ...surroundings.enter,
        ...qemuArguments(spec, disks, sockets, hardwareOf(spec, directory, consoleFile, sockets.agent, surroundings)),
      ],
      stdoutFile: VirtualMachine.outputFile(paths, spec.vmId),
      stderrFile,
      meta: state,
    });
    try {
      const monitor = await QmpClient.connect(sockets.monitor, monitorTimeoutMs, () => processes.isAlive(name));
      return new VirtualMachine(name, hostId, monitor, paths, processes, state);
    } catch (cause) {
      await processes.stop(name, 'SIGKILL', killMs);
      processes.forget(name);
      const reason = readFileSync(stderrFile, 'utf8').trim();
      throw new HostError(
        /Failed to get .*lock/.test(reason) ? 'VM_RUNNING' : 'QEMU_REFUSED',
        `qemu did not start: ${reason || 'no reason given'}`,
        { cause },
      );
    }
  }

  /** Takes over a qemu that an earlier lab started. */
  static async adopt(vmId: string, paths: FleetPaths, processes: ProcessRegistry): Promise<VirtualMachine> {
    const name = VirtualMachine.processName(vmId);
    const record = processes.record<VmState>(name);
    if (record === undefined) throw new HostError('NOT_FOUND', `VM ${vmId} has no record.`);
    const monitor = await QmpClient.connect(paths.socket('qmp', vmId), monitorTimeoutMs, () => processes.isAlive(name));
    return new VirtualMachine(name, record.hostId, monitor, paths, processes, record.meta);
  }

  /** Closes the monitor; qemu runs on and may be adopted. */
  detach(): void {
    this.#stopping = true;
    this.monitor.close();
  }

  get vmId(): string {
    return this.#state.vmId;
  }

  get state(): VmState {
    return this.#state;
  }

  /** Survives the death of the lab. */
  update(change: Partial<VmState>): void {
    this.#state = { ...this.#state, ...change };
    this.processes.updateMeta(this.processName, this.#state);
  }

  updateDisk(diskId: string, change: Partial<DiskState>): void {
    this.update({ disks: this.#state.disks.map((disk) => (disk.diskId === diskId ? { ...disk, ...change } : disk)) });
  }

  /** Called once when the process ended without {@link stop}. */
  onUnexpectedExit(listener: () => void): void {
    this.#exitListeners.push(listener);
  }

  disk(diskId: string): DiskState {
    const disk = this.#state.disks.find((candidate) => candidate.diskId === diskId);
    if (disk === undefined) throw new HostError('NOT_FOUND', `VM ${this.vmId} has no disk ${diskId}.`);
    return disk;
  }

  /** The VM's disk one of whose layers is this volume. */
  diskWithLayer(volume: VolumeId): DiskState | undefined {
    return this.#state.disks.find((disk) =>
      disk.layers.some((layer) => layer.volume.volumeId === volume.volumeId && layer.volume.diskId === volume.diskId),
    );
  }

  async runState(): Promise<VmRunState> {
    const { status } = await this.monitor.execute<{ status: string }>('query-status');
    if (!this.#hasGuest) return 'up'; // prelaunch for ever
    if (status !== 'running') return status === 'internal-error' ? 'crashed' : 'paused';
    this.#booted ||=
      this.#state.guest === 'linux'
        ? /^(cycle \d+|idle)/m.test(this.consoleText())
        : await this.agent('guest-ping', 1000).then(
            () => true,
            () => false,
          );
    return this.#booted ? 'up' : 'starting';
  }

  consoleText(): string {
    const file = consoleFileOf(this.paths, this.vmId);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  /** `graceful` lets qemu store its bitmaps. */
  async stop(graceful: boolean): Promise<void> {
    this.#stopping = true;
    if (graceful && !this.monitor.closed) {
      await this.monitor.execute('quit').catch(() => undefined); // the answer may be lost with the process
      await this.processes.waitForEnd(this.processName, killMs);
    }
    await this.processes.stop(this.processName, 'SIGKILL', killMs);
    this.monitor.close();
    rmSync(this.paths.socket('qmp', this.vmId), { force: true });
    rmSync(this.paths.socket('agent', this.vmId), { force: true });
  }

  /** Presses the power button and waits; true when the guest went off. */
  async powerDown(timeoutMs: number): Promise<boolean> {
    if (!this.monitor.closed) await this.monitor.execute('system_powerdown').catch(() => undefined); // it may have gone meanwhile
    return await this.processes.waitForEnd(this.processName, timeoutMs);
  }

  async nodes(): Promise<Map<string, NamedNode>> {
    interface RawBitmap {
      name?: string;
      recording: boolean;
      inconsistent?: boolean;
      persistent: boolean;
    }
    interface RawNode {
      'node-name': string;
      ro: boolean;
      drv: string;
      image: { 'virtual-size': number; filename: string };
      'dirty-bitmaps'?: RawBitmap[];
    }
    const raw = await this.monitor.execute<RawNode[]>('query-named-block-nodes', { flat: true });
    return new Map(
      raw.map((node) => [
        node['node-name'],
        {
          name: node['node-name'],
          driver: node.drv,
          fileName: node.image.filename,
          readOnly: node.ro,
          virtualSizeBytes: node.image['virtual-size'],
          bitmaps: (node['dirty-bitmaps'] ?? [])
            .filter((bitmap) => bitmap.name !== undefined && bitmap.persistent)
            .map((bitmap) => ({ name: bitmap.name!, recording: bitmap.recording, consistent: bitmap.inconsistent !== true })),
        },
      ]),
    );
  }

  /** Bitmaps per layer of the VM's disk, base first; with `through` only up to that volume. */
  async layerBitmaps(disk: DiskState, through?: VolumeId): Promise<(readonly LayerBitmap[])[]> {
    const nodes = await this.nodes();
    const end =
      through === undefined ? disk.layers.length : disk.layers.findIndex((layer) => layer.volume.volumeId === through.volumeId) + 1;
    return disk.layers.slice(0, end).map((layer) => nodes.get(layer.node)?.bitmaps ?? []);
  }

  async addBitmaps(actions: readonly { node: string; name: string }[]): Promise<void> {
    await this.transaction(actions.map((data) => ({ type: 'block-dirty-bitmap-add', data: { ...data, persistent: true } })));
  }

  /** A persistent bitmap can only be removed from a node that may write, so read-only layers are re-opened for the moment. */
  async removeBitmap(disk: DiskState, name: string): Promise<void> {
    const nodes = await this.nodes();
    for (const [index, layer] of disk.layers.entries()) {
      const node = nodes.get(layer.node);
      if (node?.bitmaps.some((bitmap) => bitmap.name === name) !== true) continue;
      const reopen = async (readOnly: boolean): Promise<void> => {
        await this.monitor.execute('blockdev-reopen', { options: [formatOptions(layer, readOnly, disk.layers[index - 1]?.node ?? null)] });
      };
      if (node.readOnly) await reopen(false);
      try {
        await this.monitor.execute('block-dirty-bitmap-remove', { node: layer.node, name });
      } finally {
        if (node.readOnly) await reopen(true);
      }
    }
  }

  async disableBitmap(disk: DiskState, name: string): Promise<void> {
    try {
      await this.monitor.execute('block-dirty-bitmap-disable', { node: leafOf(disk).node, name });
    } catch (cause) {
      if (cause instanceof QmpRefusal) throw new HostError('BITMAP_MISSING', cause.message, { cause });
      throw cause;
    }
  }

  async transaction(actions: readonly Record<string, unknown>[]): Promise<void> {
    if (actions.length > 0) await this.monitor.execute('transaction', { actions });
  }

  async resize(disk: DiskState, virtualSizeBytes: number): Promise<void> {
    await this.monitor.execute('block_resize', { 'node-name': leafOf(disk).node, size: virtualSizeBytes });
  }

  async hotplug(disk: VmDisk): Promise<void> {
    const state = diskState(disk, targetName(this.#state.nextTarget), this.#state.guest, (volume) => this.paths.volume(volume));
    const added: string[] = [];
    try {
      for (const options of diskNodes(state)) {
        await this.monitor.execute('blockdev-add', options);
        added.unshift(String(options['node-name']));
      }
      await this.monitor.execute('device_add', diskDevice(state));
    } catch (error) {
      await this.deleteNodes(added);
      throw error;
    }
    this.update({ nextTarget: this.#state.nextTarget + 1, disks: [...this.#state.disks, state] });
  }

  async hotunplug(diskId: string): Promise<void> {
    const disk = this.disk(diskId);
    const deleted = this.monitor.nextEvent(
      (event) => event.event === 'DEVICE_DELETED' && event.data['device'] === disk.deviceId,
      120_000,
      `the unplugging of ${diskId}`,
    );
    await Promise.all([deleted, this.monitor.execute('device_del', { id: disk.deviceId })]);
    await this.deleteNodes([...disk.layers].reverse().flatMap((layer) => [layer.node, storageNode(layer.node)]));
    this.update({ disks: this.#state.disks.filter((candidate) => candidate.diskId !== diskId) });
  }

  /** Topmost first. A node that is not there is fine. */
  async deleteNodes(names: readonly string[]): Promise<void> {
    for (const name of names) {
      await this.monitor.execute('blockdev-del', { 'node-name': name }).catch((error: unknown) => {
        if (!(error instanceof QmpRefusal) || !/(find|No such|not found)/i.test(error.description)) throw error;
      });
    }
  }

  /** The guest agent's answer; FREEZE_FAILED when there is no guest. */
  async agent<T>(command: string, timeoutMs = 20_000): Promise<T> {
    if (!this.#hasGuest) throw new HostError('FREEZE_FAILED', `VM ${this.vmId} has no guest agent.`);
    return await guestAgentCall<T>(this.paths.socket('agent', this.vmId), command, timeoutMs);
  }

  /** A lab that died between freeze and thaw must not leave the guest standing still. */
  async thawLeftOver(): Promise<void> {
    if (!this.#hasGuest || (await this.runState()) !== 'up') return;
    const status = await this.agent<string>('guest-fsfreeze-status').catch(() => 'unknown');
    if (status === 'frozen') await this.agent('guest-fsfreeze-thaw');
  }

  chainOf(disk: DiskState, virtualSizeBytes: number): DiskChain {
    return { diskId: disk.diskId, virtualSizeBytes, chain: disk.layers.map((layer) => ({ ...layer.volume, format: layer.format })) };
  }

  /** A guest runs in this qemu. */
  get #hasGuest(): boolean {
    return this.#state.guest === 'linux' || this.#state.guest === 'disk';
  }

  #monitorClosed(): void {
    if (this.#stopping) return;
    void this.processes.waitForEnd(this.processName, killMs).then(() => {
      if (!this.#stopping) for (const listener of this.#exitListeners.splice(0)) listener();
    });
  }
}
