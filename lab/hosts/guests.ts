import { HostError, type GuestInterface, type HostFleet, type VmSpec } from './driver';
import { removeConfigDrive, writeConfigDrive } from './config-drive';
import type { GuestNetworks } from './guest-networks';
import type { Machines } from './machines';
import type { FleetPaths } from './paths';
import { killMs, type ProcessRegistry } from './processes';
import type { GuestBoot } from './vm-layout';
import { requireDrive, startWorkerProcess, workerProcessName, type WorkerProgram } from './worker-process';

/**
 * What stands around a VM's qemu and lives as long as it: the config drive, the ports on the network, and for a worker that runs as a
 * process, that process. Owns their order of making and removing; qemu itself is the machines'.
 */
export interface GuestsOptions {
  readonly machines: Machines;
  readonly paths: FleetPaths;
  readonly processes: ProcessRegistry;
  /** Kernel and initramfs of the `linux` guest; made on demand when first needed. */
  readonly linuxGuest: () => Promise<GuestBoot>;
  readonly worker: WorkerProgram | undefined;
  readonly networks: GuestNetworks | undefined;
  readonly log: (level: 'info' | 'warn', message: string) => void;
}

const watchEveryMs = 250;

interface AgentInterface {
  readonly name: string;
  readonly 'hardware-address'?: string;
  readonly 'ip-addresses'?: readonly { readonly 'ip-address': string }[];
}

export class Guests {
  readonly #watches = new Map<string, NodeJS.Timeout>();
  readonly #reported = new Map<string, readonly GuestInterface[]>();

  constructor(readonly options: GuestsOptions) {
    options.machines.onExit((vmId) => {
      void this.#removeSurroundings(vmId).catch((error: unknown) => {
        options.log('warn', `What stood around VM ${vmId} was not removed: ${String(error)}`);
      });
    });
  }

  async start(hostId: string, spec: VmSpec): Promise<void> {
    const { machines, networks, paths } = this.options;
    if (machines.find(spec.vmId) !== undefined) throw new HostError('VM_RUNNING', `VM ${spec.vmId} runs already.`);
    await this.#removeSurroundings(spec.vmId);
    try {
      const drive = spec.configDrive === undefined ? undefined : await writeConfigDrive(paths.vm(spec.vmId), spec.configDrive);
      const isDisk = spec.guest === 'disk';
      await machines.start(hostId, spec, {
        enter: isDisk ? (networks?.enter(hostId) ?? []) : [],
        taps: isDisk && networks !== undefined ? await networks.connectGuest(hostId, spec.vmId, spec.macAddresses) : [],
        ...(spec.guest === 'linux' ? { boot: await this.options.linuxGuest() } : {}),
        ...(drive === undefined ? {} : { isoFile: drive.isoFile }),
      });
      if (spec.guest === 'process') await this.#startProcess(hostId, spec, drive?.folder ?? '');
    } catch (error) {
      await machines.stop(spec.vmId, false).catch(() => undefined);
      await this.#removeSurroundings(spec.vmId);
      throw error;
    }
  }

  async stop(vmId: string, graceful: boolean): Promise<void> {
    this.#unwatch(vmId);
    await this.options.machines.stop(vmId, graceful);
    await this.#removeSurroundings(vmId);
  }

  /** True when it is off; see {@link HostFleet.shutdownVm}. The caller takes away what is left by {@link stop}. */
  async shutdown(vmId: string, timeoutMs: number): Promise<boolean> {
    const { machines, processes } = this.options;
    const machine = machines.find(vmId);
    if (machine === undefined) return true;
    if (machine.state.guest === 'disk') return await machine.powerDown(timeoutMs);
    if (machine.state.guest !== 'process') return true;
    processes.signal(workerProcessName(vmId), 'SIGTERM');
    return await processes.waitForEnd(workerProcessName(vmId), timeoutMs);
  }

  async interfaces(vmId: string): ReturnType<HostFleet['guestInterfaces']> {
    const machine = this.options.machines.find(vmId);
    if (machine?.state.guest === 'process') return this.#reported.get(vmId);
    if (machine?.state.guest !== 'disk') return undefined;
    const found = await machine.agent<AgentInterface[]>('guest-network-get-interfaces', 3000).catch(() => undefined);
    return found?.map((one) => ({
      name: one.name,
      macAddress: one['hardware-address'] ?? '',
      addresses: (one['ip-addresses'] ?? []).map((address) => address['ip-address']),
    }));
  }

  /** The worker's process is stopped and continued with its qemu. */
  stall(vmId: string, stalled: boolean): void {
    const { machines, processes } = this.options;
    const signal = stalled ? 'SIGSTOP' : 'SIGCONT';
    processes.signal(machines.require(vmId).processName, signal);
    processes.signal(workerProcessName(vmId), signal);
  }

  /** After the machines were adopted: workers without a machine are ended, others watched on. */
  async adopt(): Promise<void> {
    const { machines, networks, processes } = this.options;
    for (const { name, meta } of processes.records<{ vmId: string }>(workerProcessName(''))) {
      if (machines.find(meta.vmId) === undefined) {
        await processes.stop(name, 'SIGKILL', killMs);
        await this.#removeSurroundings(meta.vmId);
      } else this.#watch(meta.vmId);
    }
    for (const vmId of networks === undefined ? [] : machines.ids()) {
      const { hostId, state } = machines.require(vmId);
      const { guest, macAddresses = [] } = state;
      if (guest === 'process') this.#reported.set(vmId, (await networks!.connectProcess(hostId, vmId, macAddresses)).interfaces);
      if (guest === 'disk') await networks!.connectGuest(hostId, vmId, macAddresses);
    }
  }

  detach(): void {
    for (const vmId of [...this.#watches.keys()]) this.#unwatch(vmId);
  }

  async #startProcess(hostId: string, spec: VmSpec, driveFolder: string): Promise<void> {
    const { worker: program, networks, paths, processes } = this.options;
    requireDrive(spec);
    if (program === undefined) throw new HostError('QEMU_REFUSED', 'This lab has no worker program to run as a process.');
    const port = await networks?.connectProcess(hostId, spec.vmId, spec.macAddresses);
    if (port !== undefined) this.#reported.set(spec.vmId, port.interfaces);
    await startWorkerProcess({ program, spec, hostId, driveFolder, enter: port?.enter ?? [], paths, processes });
    this.#watch(spec.vmId);
  }

  /** The program's end is the guest's power-off. Looked at, because a process that an earlier lab started is not our child. */
  #watch(vmId: string): void {
    const { machines, processes, log } = this.options;
    this.#unwatch(vmId);
    const timer = setInterval(() => {
      if (processes.isAlive(workerProcessName(vmId))) return;
      this.#unwatch(vmId);
      log('info', `The worker of VM ${vmId} ended.`);
      const machine = machines.find(vmId);
      machine?.update({ poweredOff: true });
      machine?.monitor.execute('quit').catch(() => undefined); // the answer may be lost with the process
    }, watchEveryMs);
    timer.unref();
    this.#watches.set(vmId, timer);
  }

  #unwatch(vmId: string): void {
    clearInterval(this.#watches.get(vmId));
    this.#watches.delete(vmId);
  }

  async #removeSurroundings(vmId: string): Promise<void> {
    const { networks, paths, processes } = this.options;
    this.#unwatch(vmId);
    this.#reported.delete(vmId);
    const name = workerProcessName(vmId);
    if (processes.record(name) !== undefined) {
      await processes.stop(name, 'SIGKILL', killMs);
      processes.forget(name);
    }
    await networks?.disconnect(vmId);
    await removeConfigDrive(paths.vm(vmId));
  }
}
