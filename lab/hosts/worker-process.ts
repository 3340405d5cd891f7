import { rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { HostError, type VmSpec } from './driver';
import type { FleetPaths } from './paths';
import type { ProcessRegistry } from './processes';

/**
 * A worker VM without a guest: the appliance program as a process of this machine, told what the config drive tells it. It stands for what
 * runs inside the VM, so it is stalled and killed with it, and its end is the guest's power-off.
 */
export interface WorkerProgram {
  /** Arguments follow: `--config-drive DIR --data-folder DIR --as-process`. */
  readonly command: readonly string[];
}

/** Debian's faketime package. */
const fakeTimeLibrary = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1';

export const workerProcessName = (vmId: string): string => `worker-${vmId}`;

export async function startWorkerProcess(options: {
  readonly program: WorkerProgram;
  readonly spec: VmSpec;
  readonly hostId: string;
  /** Tree of the config drive. */
  readonly driveFolder: string;
  readonly enter: readonly string[];
  readonly paths: FleetPaths;
  readonly processes: ProcessRegistry;
}): Promise<void> {
  const { spec, paths } = options;
  const directory = paths.vm(spec.vmId);
  const dataFolder = join(directory, 'worker');
  // The root of a worker VM is read-only: nothing of an earlier run is there.
  rmSync(dataFolder, { recursive: true, force: true });
  await mkdir(dataFolder, { recursive: true, mode: 0o700 });
  const logFile = consoleFileOf(paths, spec.vmId);
  await options.processes.start({
    name: workerProcessName(spec.vmId),
    hostId: options.hostId,
    command: [
      ...options.enter,
      ...bootSlowly(spec.bootDelaySeconds),
      ...clockOff(spec.clockOffsetSeconds),
      ...options.program.command,
      ...['--config-drive', options.driveFolder, '--data-folder', dataFolder, '--as-process'],
    ],
    stdoutFile: logFile,
    stderrFile: logFile,
    meta: { vmId: spec.vmId },
  });
}

/** What the guest's serial console shows, or the process's output. */
export const consoleFileOf = (paths: FleetPaths, vmId: string): string => join(paths.vm(vmId), 'console.log');

function bootSlowly(seconds = 0): readonly string[] {
  return seconds === 0 ? [] : ['sh', '-c', 'sleep "$0" && exec "$@"', String(seconds)];
}

/** Only the time of day is off, not the clock that timers run by. */
function clockOff(seconds = 0): readonly string[] {
  if (seconds === 0) return [];
  const sign = seconds < 0 ? '-' : '+';
  return [
    'env',
    `LD_PRELOAD=${fakeTimeLibrary}`,
    `FAKETIME=${sign}${Math.abs(seconds)}s`,
    'FAKETIME_DONT_FAKE_MONOTONIC=1',
    'DONT_FAKE_MONOTONIC=1',
  ];
}

export function requireDrive(spec: VmSpec): Readonly<Record<string, string>> {
  if (spec.configDrive === undefined) throw new HostError('QEMU_REFUSED', `VM ${spec.name} is a worker's but has no config drive.`);
  return spec.configDrive;
}
