import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { VmSpec } from '../driver';
import { hostId, newLeafOf, openFleet, withLayer } from './fleet-harness';

/**
 * A lab process that exists to be killed: it runs the VM it is told to and changes its layers and backups without end. One line `ready`
 * once the VM runs, one line `round` after each round.
 */
interface Task {
  readonly dataDir: string;
  readonly ca: { readonly certificatePem: string; readonly privateKeyPem: string };
  readonly vm: VmSpec;
}

async function main(taskFile: string): Promise<void> {
  const { dataDir, ca, vm } = JSON.parse(readFileSync(taskFile, 'utf8')) as Task;
  const fleet = openFleet(dataDir, ca);
  await fleet.startHost(hostId);
  if ((await fleet.vmState(vm.vmId)) === 'absent') await fleet.startVm(hostId, vm);
  process.stdout.write('ready\n');
  const disk = vm.disks[0]!;
  for (;;) {
    const backupId = randomUUID();
    await fleet.startLiveBackup({
      vmId: vm.vmId,
      backupId,
      disks: [{ diskId: disk.diskId, mode: 'full', addBitmap: true }],
      toCheckpointId: `unfinished-${backupId}`,
      requireConsistency: false,
    });
    await fleet.stopLiveBackup(backupId, false);
    const leaf = newLeafOf(disk);
    await fleet.createSnapshot(vm.vmId, [{ disk, newLeaf: leaf }]);
    await fleet.mergeVolume(vm.vmId, withLayer(disk, leaf), leaf);
    await fleet.deleteVolume(leaf);
    process.stdout.write('round\n');
  }
}

void main(process.argv[2]!).catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
