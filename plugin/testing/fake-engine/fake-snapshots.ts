import type { Snapshot } from '../../engine/snapshots';
import type { FakeVm, Mutable } from '../fake-rows';
import { conflict, finalBackup } from './fake-world';
import type { FakeWorld } from './fake-world';

export function fakeSnapshots(world: FakeWorld) {
  return {
    list: world.call('snapshots.list', (vmId: string) => world.vm(vmId).snapshots.map((s) => ({ ...s }))),
    remove: world.call('snapshots.remove', (vmId: string, id: string) => {
      const vm = world.vm(vmId);
      if (vm.backups.some((b) => !finalBackup.includes(b.phase))) throw conflict('VM is during a backup');
      const found = vm.snapshots.find((s) => s.id === id);
      if (!found) return false;
      mergeSnapshot(world, vm, found);
      return true;
    }),
  };
}

/** Locked while it merges, then gone, or `ok` again when the merge fails. */
export function mergeSnapshot(world: FakeWorld, vm: FakeVm, snapshot: Mutable<Snapshot>): void {
  if (snapshot.status === 'locked' && vm.backups.every((b) => finalBackup.includes(b.phase))) return;
  snapshot.status = 'locked';
  world.later(() => {
    if (world.failingMerges > 0) {
      world.failingMerges -= 1;
      snapshot.status = 'ok';
    } else {
      vm.snapshots = vm.snapshots.filter((s) => s !== snapshot);
    }
  });
}
