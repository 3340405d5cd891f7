import { rm } from 'node:fs/promises';
import { requireBitmap } from './bitmap-chain';
import { type BackupStart, HostError, type NbdExport } from './driver';
import { cancelJob } from './jobs';
import { shortHash } from './paths';
import { createImage } from './qemu-img';
import { QmpRefusal } from './qmp';
import type { BackupState, VirtualMachine } from './virtual-machine';
import { leafOf } from './vm-layout';

/**
 * Pull-mode backup of a running VM, in the order that libvirt keeps: server, scratch, one transaction (the point in time), exports;
 * and back: exports gone, server stopped, and only then the jobs cancelled. A job cancelled under a living export silently shows
 * later guest writes to its reader.
 *
 * Checkpoints: all bitmaps record all the time (libvirt's present scheme), so an incremental needs only the bitmap of its own starting
 * point, merged over the layers that have it.
 */
const jobId = (target: string): string => `backup-${target}`;
const exportBitmap = (target: string): string => `backup-${target}`;
const scratchNode = (target: string): string => `fleece-${target}`;
const exportId = (target: string): string => `export-${target}`;

export async function startLiveBackup(vm: VirtualMachine, start: BackupStart, warn: (message: string) => void): Promise<void> {
  if (vm.state.backup !== undefined) throw new HostError('QEMU_REFUSED', `VM ${vm.vmId} has a backup under way.`);
  const nodes = await vm.nodes();
  const disks = start.disks.map((request) => {
    const disk = vm.disk(request.diskId);
    // Refused before anything is recorded, so that the undoing of this backup can only ever remove a bitmap of its own.
    if (nodes.get(leafOf(disk).node)?.bitmaps.some((bitmap) => bitmap.name === start.toCheckpointId) === true)
      throw new HostError('QEMU_REFUSED', `Disk ${disk.diskId} has a bitmap ${start.toCheckpointId ?? ''} already.`);
    const sources = request.mode === 'full' ? [] : bitmapSources(vm, request.diskId, start.fromCheckpointId, nodes);
    return {
      request,
      disk,
      sources,
      sizeBytes: nodes.get(leafOf(disk).node)?.virtualSizeBytes ?? 0,
      scratchFile: vm.paths.scratch(`fleece-${shortHash(`${start.backupId}/${disk.diskId}`)}.qcow2`),
    };
  });
  const backup: BackupState = {
    backupId: start.backupId,
    phase: 'starting',
    socket: vm.paths.socket('backup', start.backupId),
    toCheckpointId: start.toCheckpointId,
    disks: disks.map(({ request, disk, sizeBytes, scratchFile }) => {
      return { diskId: disk.diskId, target: disk.target, scratchFile, sizeBytes, dirty: request.mode === 'incremental' };
    }),
  };
  vm.update({ backup });
  try {
    await vm.monitor.execute('nbd-server-start', { addr: { type: 'unix', data: { path: backup.socket } } });
    for (const { disk, scratchFile, sizeBytes } of disks) {
      await createImage({ file: scratchFile, format: 'cow', virtualSizeBytes: sizeBytes });
      await vm.monitor.execute('blockdev-add', {
        driver: 'qcow2',
        'node-name': scratchNode(disk.target),
        backing: leafOf(disk).node,
        file: { driver: 'file', filename: scratchFile },
      });
    }
    const actions = disks.flatMap(({ request, disk, sources }) => {
      const scratch = scratchNode(disk.target);
      const name = exportBitmap(disk.target);
      const bitmaps: Record<string, unknown>[] = [];
      if (request.addBitmap && start.toCheckpointId !== undefined)
        bitmaps.push({ type: 'block-dirty-bitmap-add', data: { node: leafOf(disk).node, name: start.toCheckpointId, persistent: true } });
      if (request.mode === 'incremental') {
        bitmaps.push({ type: 'block-dirty-bitmap-add', data: { node: scratch, name, persistent: false, disabled: true } });
        bitmaps.push({ type: 'block-dirty-bitmap-merge', data: { node: scratch, target: name, bitmaps: sources } });
      }
      const data = { 'job-id': jobId(disk.target), device: leafOf(disk).node, target: scratch, sync: 'none', 'auto-dismiss': false };
      return [...bitmaps, { type: 'blockdev-backup', data }];
    });
    await withFrozenGuest(vm, start.requireConsistency, warn, async () => await vm.transaction(actions));
    for (const { request, disk } of disks) {
      await vm.monitor.execute('block-export-add', {
        type: 'nbd',
        id: exportId(disk.target),
        name: disk.target,
        'node-name': scratchNode(disk.target),
        writable: false,
        'allocation-depth': true,
        ...(request.mode === 'incremental' ? { bitmaps: [exportBitmap(disk.target)] } : {}),
      });
    }
    vm.update({ backup: { ...backup, phase: 'ready' } });
  } catch (error) {
    await stopLiveBackup(vm, false);
    throw error;
  }
}

export function liveBackupExport(backup: BackupState, diskId: string): NbdExport {
  const disk = backup.disks.find((candidate) => candidate.diskId === diskId);
  if (disk === undefined || backup.phase !== 'ready')
    throw new HostError('NOT_FOUND', `Backup ${backup.backupId} has no export of disk ${diskId}.`);
  return { url: `nbd:unix:${backup.socket}:exportname=${disk.target}`, sizeBytes: disk.sizeBytes, dirty: disk.dirty };
}

/** Every step takes "is not there" for done, so that it ends a backup in whatever state a dead lab left it. */
export async function stopLiveBackup(vm: VirtualMachine, keepBitmaps: boolean): Promise<void> {
  const backup = vm.state.backup;
  if (backup === undefined) return;
  vm.update({ backup: { ...backup, phase: keepBitmaps ? 'keeping' : 'dropping' } });
  for (const { target } of backup.disks) await deleteExport(vm, exportId(target));
  await absentIsFine(vm.monitor.execute('nbd-server-stop'));
  for (const { target } of backup.disks) await cancelJob(vm.monitor, jobId(target));
  await vm.deleteNodes(backup.disks.map(({ target }) => scratchNode(target)));
  if (!keepBitmaps && backup.toCheckpointId !== undefined) {
    for (const { diskId } of backup.disks) {
      const disk = vm.state.disks.find((candidate) => candidate.diskId === diskId);
      if (disk !== undefined) await vm.removeBitmap(disk, backup.toCheckpointId);
    }
  }
  await discardBackupFiles(backup);
  vm.update({ backup: undefined });
}

export async function discardBackupFiles(backup: BackupState): Promise<void> {
  for (const { scratchFile } of backup.disks) await rm(scratchFile, { force: true });
  await rm(backup.socket, { force: true });
}

function bitmapSources(
  vm: VirtualMachine,
  diskId: string,
  name: string | undefined,
  nodes: Awaited<ReturnType<VirtualMachine['nodes']>>,
): { node: string; name: string }[] {
  if (name === undefined) throw new HostError('BITMAP_MISSING', 'An incremental backup needs a checkpoint to start from.');
  const disk = vm.disk(diskId);
  const layers = disk.layers.map((layer) => nodes.get(layer.node)?.bitmaps ?? []);
  const depth = requireBitmap(disk, layers, name);
  return disk.layers.slice(-depth).map((layer) => ({ node: layer.node, name }));
}

async function withFrozenGuest(
  vm: VirtualMachine,
  required: boolean,
  warn: (message: string) => void,
  work: () => Promise<void>,
): Promise<void> {
  let thaw = false;
  try {
    if ((await vm.agent<string>('guest-fsfreeze-status')) !== 'frozen') {
      thaw = true; // also when the freeze fails half way
      await vm.agent<number>('guest-fsfreeze-freeze');
    }
  } catch (error) {
    if (required) {
      if (thaw) await vm.agent('guest-fsfreeze-thaw').catch(() => undefined);
      throw error instanceof HostError && error.code === 'FREEZE_FAILED'
        ? error
        : new HostError('FREEZE_FAILED', 'The guest cannot be frozen.', { cause: error });
    }
    if (vm.state.guest === 'linux') warn(`VM ${vm.vmId} is backed up without a freeze: ${String(error)}`);
  }
  try {
    await work();
  } finally {
    if (thaw) await vm.agent('guest-fsfreeze-thaw').catch((error: unknown) => warn(`VM ${vm.vmId} cannot be thawed: ${String(error)}`));
  }
}

async function deleteExport(vm: VirtualMachine, id: string): Promise<void> {
  const exports = await vm.monitor.execute<{ id: string }[]>('query-block-exports');
  if (!exports.some((entry) => entry.id === id)) return;
  const deleted = vm.monitor.nextEvent(
    (event) => event.event === 'BLOCK_EXPORT_DELETED' && event.data['id'] === id,
    120_000,
    `the end of ${id}`,
  );
  await Promise.all([deleted, vm.monitor.execute('block-export-del', { id, mode: 'hard' })]);
}

async function absentIsFine(call: Promise<unknown>): Promise<void> {
  await call.catch((error: unknown) => {
    if (!(error instanceof QmpRefusal)) throw error;
  });
}
