import { randomUUID } from 'node:crypto';
import { Secret } from '../../../common/log/redact';
import { EngineErrors } from '../../engine/engine-errors';
import type { ImageTransfer, NewTransfer } from '../../engine/image-transfers';
import type { FakeTransfer } from '../fake-rows';
import { conflict, finalTransfer } from './fake-world';
import { transfersOfVolumes } from './fake-snapshots';
import type { FakeWorld } from './fake-world';

/** Transfers that end in steps, uploads whose cancel removes the disk; engine REST API §14.4. */
export function fakeTransfers(world: FakeWorld) {
  return {
    create: world.call('transfers.create', (body: NewTransfer) => createTransfer(world, body)),
    find: world.call('transfers.find', (id: string) => {
      const found = world.transfersById.get(id);
      return found && !(world.forgetful && finalTransfer.includes(found.phase)) ? view(found) : undefined;
    }),
    list: world.call('transfers.list', () => [...world.transfersById.values()].map(view)),
    finalize: world.call('transfers.finalize', (id: string) => endTransfer(world, id, 'finalizing_success')),
    cancel: world.call('transfers.cancel', (id: string) => endTransfer(world, id, 'finalizing_cleanup')),
  };
}

function createTransfer(world: FakeWorld, body: NewTransfer): ImageTransfer {
  const volume = body.volumeId?.split('/');
  const disk = world.disksById.get(volume?.[2] ?? body.diskId ?? '');
  if (!disk) throw EngineErrors.ENGINE_NOT_FOUND({ what: 'disk' });
  if (volume && ![...world.vmsById.values()].some((v) => v.snapshots.some((s) => s.id === volume[1] && s.status === 'ok')))
    throw EngineErrors.ENGINE_NOT_FOUND({ what: 'volume' });
  if (volume && transfersOfVolumes(world).some((t) => t.volumeId === body.volumeId)) throw conflict('disk is locked');
  const owner = [...world.vmsById.values()].find((v) => v.backups.some((b) => b.id === body.backupId));
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
    inactivityTimeoutSeconds: body.inactivityTimeoutSeconds,
    volumeId: body.volumeId,
    transferUrl: undefined,
    proxyUrl: undefined,
    backupId: body.backupId,
    incremental,
  };
  world.transfersById.set(transfer.id, transfer);
  if (backup?.mode !== 'hybrid' && !volume) disk.status = 'locked';
  let broken = incremental && world.brokenBitmaps.has(`${disk.id}/${backup?.fromCheckpointId}`);
  if (world.failingTransfers > 0) {
    world.failingTransfers -= 1;
    broken = true;
  }
  world.later(() => {
    if (transfer.phase !== 'initializing') return;
    if (broken) {
      transfer.phase = 'cancelled_system';
      world.later(() => settleTransfer(world, transfer, 'finished_failure'));
      return;
    }
    transfer.phase = 'transferring';
    transfer.transferUrl = new Secret(`https://host1:54322/images/${transfer.id}`);
    transfer.proxyUrl = new Secret(`https://engine:54323/images/${transfer.id}`);
  });
  return view(transfer);
}

function endTransfer(world: FakeWorld, id: string, wanted: 'finalizing_success' | 'finalizing_cleanup'): void {
  const transfer = world.transfersById.get(id);
  if (!transfer || finalTransfer.includes(transfer.phase)) return;
  transfer.phase = wanted;
  transfer.transferUrl = undefined;
  transfer.proxyUrl = undefined;
  const tick = () => {
    if (transfer.phase !== wanted) return;
    if (world.ticketsStuck) return world.later(tick);
    if (wanted === 'finalizing_success') return settleTransfer(world, transfer, 'finished_success');
    transfer.phase = 'finished_cleanup';
    world.later(() => settleTransfer(world, transfer, 'finished_failure'));
  };
  world.later(tick);
}

function settleTransfer(world: FakeWorld, transfer: FakeTransfer, phase: 'finished_success' | 'finished_failure'): void {
  transfer.phase = phase;
  const disk = world.disksById.get(transfer.diskId ?? '');
  if (!disk) return;
  if (transfer.direction === 'upload' && phase === 'finished_failure') {
    disk.status = 'illegal';
    world.later(() => world.disksById.delete(disk.id));
  } else {
    disk.status = 'ok';
  }
}

function view(transfer: FakeTransfer): ImageTransfer {
  return { ...transfer };
}
