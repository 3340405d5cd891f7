import { readFileSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { type DiskChain, HostError, type NbdExport } from './driver';
import { type FleetPaths, shortHash } from './paths';
import { type ProcessRecord, type ProcessRegistry } from './processes';
import { qemuFormat } from './qemu-img';
import { tryConnect } from './qmp';
import { type VolumeStore, requireLeaf } from './volumes';

/**
 * qemu-nbd servers for all transfers but those of a live backup, with vdsm's options: eight clients, empty export name, allocation
 * depth. Not vdsm's --cache=none: the lab's storage may be a tmpfs.
 *
 * Snapshot layers below a running VM's leaf are served this way too (hybrid backups): when qemu puts a new leaf over a disk it re-opens
 * the old one read-only, which writes its bitmaps to the file, consistent and no longer in use, and from then on nothing changes it until
 * the merge. So a second opener sees exactly the point in time of the snapshot, and needs no --force-share (checked on qemu 7.2).
 */
interface NbdMeta {
  readonly exportId: string;
  readonly result: NbdExport;
  readonly socket: string;
  readonly overlay: string | undefined;
}

export interface NbdStart {
  readonly writable: boolean;
  readonly bitmap?: string;
  /** Only what the leaf itself holds; everything else is a hole. */
  readonly shallow?: boolean;
  /** Fault: what a client writes fails for want of space. */
  readonly full?: boolean;
}

export class NbdServers {
  constructor(
    readonly paths: FleetPaths,
    readonly processes: ProcessRegistry,
    readonly volumes: VolumeStore,
  ) {}

  async start(hostId: string, exportId: string, disk: DiskChain, options: NbdStart): Promise<NbdExport> {
    const name = processName(exportId);
    const known = this.processes.record<NbdMeta>(name);
    if (known !== undefined) {
      if (this.processes.isAlive(name)) return known.meta.result;
      await this.stop(exportId);
    }
    const leaf = requireLeaf(disk);
    let file = await this.volumes.requireFile(leaf);
    let format = leaf.format;
    const overlay = this.paths.scratch(`nbd-${shortHash(exportId)}.qcow2`);
    let usesOverlay = false;
    if (options.bitmap !== undefined) {
      rmSync(overlay, { force: true });
      usesOverlay = await this.volumes.mergedBitmapOverlay(disk, options.bitmap, overlay);
      if (usesOverlay) {
        file = overlay;
        format = 'cow';
      }
    }
    const socket = this.paths.socket('nbd', exportId);
    rmSync(socket, { force: true });
    const result: NbdExport = { url: `nbd:unix:${socket}`, sizeBytes: disk.virtualSizeBytes, dirty: options.bitmap !== undefined };
    const errors = logFile(this.paths, exportId);
    await this.processes.start<NbdMeta>({
      name,
      hostId,
      command: ['qemu-nbd', ...serverOptions(socket, format, options), ...image(file, format, options)],
      stdoutFile: errors,
      stderrFile: errors,
      meta: { exportId, result, socket, overlay: usesOverlay ? overlay : undefined },
    });
    try {
      await this.#waitUntilServing(name, socket, errors);
    } catch (error) {
      await this.stop(exportId);
      throw error;
    }
    return result;
  }

  async stop(exportId: string): Promise<void> {
    const name = processName(exportId);
    const record = this.processes.record<NbdMeta>(name);
    if (record === undefined) return;
    await this.processes.stop(name, 'SIGTERM', 20_000);
    this.#clean(record);
  }

  /** After a restart of the lab: servers that died meanwhile leave their overlay behind. */
  sweep(): void {
    for (const record of this.processes.records<NbdMeta>('nbd-')) if (!this.processes.isAlive(record.name)) this.#clean(record);
  }

  exportIds(): string[] {
    return this.processes.records<NbdMeta>('nbd-').map((record) => record.meta.exportId);
  }

  /** What the servers need below `scratch`. */
  scratchFiles(): string[] {
    return this.processes
      .records<NbdMeta>('nbd-')
      .flatMap(({ meta }) => [logFile(this.paths, meta.exportId), ...(meta.overlay === undefined ? [] : [meta.overlay])]);
  }

  #clean(record: ProcessRecord<NbdMeta>): void {
    rmSync(record.meta.socket, { force: true });
    if (record.meta.overlay !== undefined) rmSync(record.meta.overlay, { force: true });
    rmSync(logFile(this.paths, record.meta.exportId), { force: true });
    this.processes.forget(record.name);
  }

  async #waitUntilServing(name: string, socket: string, errors: string): Promise<void> {
    const deadline = Date.now() + 120_000;
    for (;;) {
      const connection = await tryConnect(socket);
      if (connection !== undefined) {
        connection.destroy();
        return;
      }
      if (!this.processes.isAlive(name)) throw refusal(readFileSync(errors, 'utf8'));
      if (Date.now() > deadline) throw new HostError('HOST_DOWN', 'qemu-nbd does not serve.');
      await delay(10);
    }
  }
}

const processName = (exportId: string): string => `nbd-${shortHash(exportId)}`;

const logFile = (paths: FleetPaths, exportId: string): string => paths.scratch(`nbd-${shortHash(exportId)}.log`);

function serverOptions(socket: string, format: 'raw' | 'cow', options: NbdStart): string[] {
  return [
    '--persistent',
    '--shared=8',
    `--socket=${socket}`,
    '--export-name=',
    ...(options.writable ? ['--discard=unmap', '--detect-zeroes=unmap'] : ['--read-only']),
    ...(format === 'cow' ? ['--allocation-depth'] : []),
    ...(options.bitmap === undefined ? [] : [`--bitmap=${options.bitmap}`]),
  ];
}

function image(file: string, format: 'raw' | 'cow', { shallow = false, full = false }: NbdStart): string[] {
  const hidesBacking = shallow && format === 'cow';
  if (!hidesBacking && !full) return [`--format=${qemuFormat(format)}`, file];
  const storage = { driver: 'file', filename: file };
  const noSpace = { event: 'none', iotype: 'write', errno: constants.errno.ENOSPC, once: false };
  const options = {
    driver: qemuFormat(format),
    ...(hidesBacking ? { backing: null } : {}),
    file: full ? { driver: 'blkdebug', image: storage, 'inject-error': [noSpace] } : storage,
  };
  return [`json:${JSON.stringify(options)}`];
}

function refusal(text: string): HostError {
  const message = text.trim() || 'no reason given';
  return new HostError(/Failed to get .*lock/.test(message) ? 'VM_RUNNING' : 'QEMU_REFUSED', `qemu-nbd refused: ${message}`);
}
