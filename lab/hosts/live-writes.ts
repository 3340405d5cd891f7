import { closeSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { HostError, type HostFleet } from './driver';
import { cancelJob, waitForJob } from './jobs';
import { shortHash } from './paths';
import { createImage, runTool } from './qemu-img';
import { seededBytes } from './seeded-bytes';
import { VirtualMachine } from './virtual-machine';
import { type DiskState, leafOf } from './vm-layout';

/** Writes to a running VM's disk without its guest, and whole copies of it, for fault injection and tests. */
const stepBytes = 16 * 1024 * 1024; // bounds the memory of qemu and of this process

export async function writeToDisk(vm: VirtualMachine, diskId: string, write: Parameters<HostFleet['writeBlocks']>[2]): Promise<void> {
  const disk = vm.disk(diskId);
  for (let done = 0; done < write.lengthBytes; done += stepBytes) {
    const length = Math.min(stepBytes, write.lengthBytes - done);
    const range = `${write.offsetBytes + done} ${length}`;
    // The last one with a flush behind it: without it qcow2 keeps its tables in memory, and qemu's death would empty the disk.
    const force = done + length === write.lengthBytes ? '-f ' : '';
    if (write.pattern === 'zero') await qemuIo(vm, disk, `write -z -u ${force}${range}`);
    else if (write.pattern === 'random') {
      const file = vm.paths.socket('data', vm.vmId); // a short path without blanks
      await writeFile(file, seededBytes(write.seed ?? 0, write.offsetBytes + done, length));
      try {
        await qemuIo(vm, disk, `write ${force}-s ${file} ${range}`);
      } finally {
        rmSync(file, { force: true });
      }
    } else await qemuIo(vm, disk, `write ${force}-P ${write.pattern & 0xff} ${range}`);
  }
}

/**
 * Copies the disk as it is at this moment into a raw file, while writes and backups go on. By way of a qcow2 file: qemu's backup job writes
 * zeroes into a raw target as allocated blocks, and the copy of a large sparse disk would fill the machine.
 */
export async function dumpLiveDisk(vm: VirtualMachine, disk: DiskState, sizeBytes: number, file: string): Promise<void> {
  const node = dumpNode(disk.target);
  const scratch = vm.paths.scratch(`${node}-${shortHash(vm.vmId)}.qcow2`);
  try {
    await createImage({ file: scratch, format: 'cow', virtualSizeBytes: sizeBytes });
    await vm.monitor.execute('blockdev-add', { driver: 'qcow2', 'node-name': node, file: { driver: 'file', filename: scratch } });
    try {
      const job = { 'job-id': node, device: leafOf(disk).node, target: node, sync: 'full', 'auto-dismiss': false };
      await vm.monitor.execute('blockdev-backup', job);
      await waitForJob(vm.monitor, node, 'concluded', 600_000);
      await vm.monitor.execute('job-dismiss', { id: node });
    } finally {
      await vm.deleteNodes([node]);
    }
    await runTool('qemu-img', ['convert', '-q', '-f', 'qcow2', '-O', 'raw', scratch, file]);
  } finally {
    rmSync(scratch, { force: true });
  }
}

/** After the lab died in the middle of a copy. */
export async function endLiveDumps(vm: VirtualMachine): Promise<void> {
  for (const { target } of vm.state.disks) {
    await cancelJob(vm.monitor, dumpNode(target));
    await vm.deleteNodes([dumpNode(target)]);
  }
}

const dumpNode = (target: string): string => `dump-${target}`;

/** The monitor's answer says nothing of the outcome: qemu prints it on its own standard output, of which we read what is new. */
async function qemuIo(vm: VirtualMachine, disk: DiskState, command: string): Promise<void> {
  const output = VirtualMachine.outputFile(vm.paths, vm.vmId);
  const before = statSync(output).size;
  const line = `qemu-io -d ${disk.backendPath} "${command}"`;
  const answer = await vm.monitor.execute<string>('human-monitor-command', { 'command-line': line }, 120_000);
  const printed = readFrom(output, before);
  if (/^wrote \d+\/\d+ bytes/m.test(printed)) return;
  const reason = `${answer} ${printed}`.trim();
  throw new HostError(
    /No space/.test(reason) ? 'NO_SPACE' : 'QEMU_REFUSED',
    `Write to disk ${disk.diskId} failed: ${reason || 'no reason given'}`,
  );
}

function readFrom(file: string, offset: number): string {
  const handle = openSync(file, 'r');
  try {
    const buffer = Buffer.alloc(4096);
    return buffer.toString('utf8', 0, readSync(handle, buffer, 0, buffer.length, offset));
  } finally {
    closeSync(handle);
  }
}
