import { randomUUID } from 'node:crypto';
import type { EngineBackup, NewBackup } from '../../engine/backups';
import { EngineErrors } from '../../engine/engine-errors';
import { engineBackupSnapshot } from '../../engine/snapshots';
import type { FakeBackup, FakeVm } from '../fake-rows';
import { mergeSnapshot } from './fake-snapshots';
import { conflict, copy, finalBackup, finalTransfer, refused } from './fake-world';
import type { FakeWorld } from './fake-world';

/** Live, cold and hybrid backups and their checkpoints; engine REST API §14.1 to §14.3. */
export function fakeBackups(world: FakeWorld) {
  return {
    start: world.call('backups.start', (vmId: string, body: NewBackup) => startBackup(world, vmId, body)),
    find: world.call('backups.find', (vmId: string, id: string) => {
      const found = world.vm(vmId).backups.find((b) => b.id === id);
      return found && !(world.forgetful && finalBackup.includes(found.phase)) ? { ...found } : undefined;
    }),
    list: world.call('backups.list', (vmId: string) => world.vm(vmId).backups.map((b) => ({ ...b }))),
    disks: world.call('backups.disks', (vmId: string, id: string) => world.vm(vmId).backups.find((b) => b.id === id)?.disks ?? []),
    finalize: world.call('backups.finalize', (vmId: string, id: string) => finalizeBackup(world, vmId, id)),
  };
}

export function fakeCheckpoints(world: FakeWorld) {
  return {
    list: world.call('checkpoints.list', (vmId: string) => world.vm(vmId).checkpoints.map((c) => ({ ...c }))),
    disks: world.call('checkpoints.disks', (vmId: string, id: string) => {
      const found = world.vm(vmId).checkpoints.find((c) => c.id === id);
      return (found?.diskIds ?? []).flatMap((diskId) => copy(world.disksById.get(diskId)) ?? []);
    }),
    remove: world.call('checkpoints.remove', (vmId: string, id: string) => {
      const vm = world.vm(vmId);
      if (vm.backups.some((b) => !finalBackup.includes(b.phase))) throw conflict('VM is during a backup');
      if (!vm.checkpoints.some((c) => c.id === id)) return false;
      world.later(() => (vm.checkpoints = vm.checkpoints.filter((c) => c.id !== id)));
      return true;
    }),
  };
}

function startBackup(world: FakeWorld, vmId: string, body: NewBackup): EngineBackup {
  const vm = world.vm(vmId);
  if (vm.backups.some((b) => b.id === body.id)) throw refused(400, 'backup id already exists');
  if (vm.backups.some((b) => !finalBackup.includes(b.phase))) throw conflict('Cannot backup VM. The VM is during a backup operation.');
  const disks = body.diskIds.map((id) => world.disksById.get(id));
  if (disks.some((d) => d === undefined)) throw refused(400, 'disks do not exist');
  if (disks.some((d) => d?.status === 'locked')) throw conflict('Cannot backup VM. Disks are locked.');
  if (vm.vm.status !== 'up' && vm.vm.status !== 'down') throw refused(409, 'VM should be up or down');
  const from = vm.checkpoints.find((c) => c.id === body.fromCheckpointId);
  if (body.fromCheckpointId !== undefined && !from) throw unusable(vmId, body, 'The checkpoint does not exist.');
  if (from && from.state !== 'created') throw unusable(vmId, body, 'The checkpoint is invalid.');
  const hybrid = world.level.minor >= 7 && body.legacy !== true;
  const backup: FakeBackup = {
    id: body.id,
    phase: 'initializing',
    description: body.description,
    vmId,
    hostId: undefined,
    snapshotId: undefined,
    fromCheckpointId: body.fromCheckpointId,
    toCheckpointId: undefined,
    createdAt: new Date(world.clock.now()),
    mode: hybrid ? 'hybrid' : vm.vm.status === 'up' ? 'live' : 'cold',
    stopping: false,
    disks: disks.flatMap((disk) => {
      if (!disk) return [];
      const incremental = from !== undefined && disk.format === 'cow' && from.diskIds.includes(disk.id);
      return [{ ...disk, backupMode: incremental ? ('incremental' as const) : ('full' as const) }];
    }),
  };
  vm.backups.push(backup);
  if (backup.mode === 'live' && from && body.diskIds.some((id) => world.brokenBitmaps.has(`${id}/${from.id}`))) {
    // Redefinition fails inside the request: all checkpoints of the VM go.
    vm.checkpoints = [];
    backup.phase = 'failed';
    throw unusable(vmId, body, '');
  }
  if (!hybrid) for (const d of disks) if (d) d.status = 'locked';
  void proceed(world, vm, backup, body);
  return { ...backup };
}

async function proceed(world: FakeWorld, vm: FakeVm, backup: FakeBackup, body: NewBackup): Promise<void> {
  if (backup.mode === 'hybrid') {
    backup.phase = 'starting';
    const active = vm.snapshots.find((s) => s.type === 'active')!;
    backup.snapshotId = active.id;
    active.type = 'regular';
    active.description = engineBackupSnapshot;
    active.status = 'locked';
    vm.snapshots.push({ ...active, id: randomUUID(), description: 'Active VM', type: 'active', status: 'ok' });
  }
  await world.clock.sleep(world.stepMs);
  if (finalBackup.includes(backup.phase)) return;
  if (world.startFailure !== '' || (body.requireConsistency === true && backup.mode !== 'live')) {
    world.lastFailure = world.startFailure;
    return failBackup(world, vm, backup);
  }
  backup.phase = 'starting';
  await world.clock.sleep(world.stepMs);
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

function finalizeBackup(world: FakeWorld, vmId: string, id: string): void {
  const vm = world.vm(vmId);
  const backup = vm.backups.find((b) => b.id === id);
  if (!backup || backup.stopping || ['finalizing', ...finalBackup].includes(backup.phase)) return;
  if ([...world.transfersById.values()].some((t) => t.backupId === id && !finalTransfer.includes(t.phase)))
    throw conflict('Cannot stop backup: active image transfer');
  if (backup.phase !== 'ready') {
    failBackup(world, vm, backup);
    throw refused(400, 'premature stop');
  }
  backup.stopping = true;
  if (backup.mode !== 'hybrid') backup.phase = 'finalizing';
  world.later(() => {
    backup.phase = 'finalizing';
    world.later(() => {
      const snapshot = vm.snapshots.find((s) => s.id === backup.snapshotId);
      if (snapshot) mergeSnapshot(world, vm, snapshot);
      unlock(world, backup);
      backup.phase = 'succeeded';
    });
  });
}

function failBackup(world: FakeWorld, vm: FakeVm, backup: FakeBackup): void {
  backup.phase = 'failed';
  vm.checkpoints = vm.checkpoints.filter((c) => c.id !== backup.toCheckpointId);
  const snapshot = vm.snapshots.find((s) => s.id === backup.snapshotId);
  backup.snapshotId = undefined;
  if (snapshot) mergeSnapshot(world, vm, snapshot);
  unlock(world, backup);
}

function unlock(world: FakeWorld, backup: FakeBackup): void {
  if (backup.mode === 'hybrid') return;
  for (const { id } of backup.disks) {
    const disk = world.disksById.get(id);
    if (disk) disk.status = 'ok';
  }
}

function unusable(vmId: string, body: NewBackup, detail: string) {
  return EngineErrors.ENGINE_CHECKPOINT_UNUSABLE({ vmId, checkpointId: body.fromCheckpointId ?? '', detail });
}
