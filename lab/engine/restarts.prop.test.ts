import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import type { Vm } from './model/entities';
import { EngineBench, text, type Answer } from './testing/engine-bench';
import { FakeFleet } from './testing/fake-fleet';

/**
 * The engine is killed at arbitrary moments of a backup, its transfer and a snapshot, while a patient client repeats what got no answer.
 * However that goes, everything comes to an end and nothing stays behind.
 */
describe('restarts of the engine', () => {
  it('leave no lock, no locked disk, no ticket, no export, no half snapshot and no checkpoint without its bitmap', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(5, 6, 7),
        fc.boolean(),
        fc.array(fc.integer({ min: 0, max: 25 }), { minLength: 1, maxLength: 5 }),
        async (minor, up, pauses) => {
          const fleet = new FakeFleet();
          const bench = await EngineBench.open(fleet, { level: { major: 4, minor }, clockFactor: 2_000 });
          try {
            const { vm } = await bench.addVm('web', [{}, { format: 'raw' }], up ? 'up' : 'down');
            const client = new PatientClient(bench, vm);
            const killing = killAfter(bench, pauses);
            await client.backUp();
            await client.snapshotAndRemove();
            await killing;
            await bench.until(() => isQuiet(bench), 'everything ended');
            expectNothingLeft(bench, fleet, vm);
          } finally {
            await bench.close();
          }
        },
      ),
      { numRuns: 40, endOnFailure: true },
    );
  });
});

class PatientClient {
  constructor(
    private readonly bench: EngineBench,
    private readonly vm: Vm,
  ) {}

  async backUp(): Promise<void> {
    const { bench, vm } = this;
    const diskIds = bench.db.attachments.list((attachment) => attachment.vmId === vm.id).map(({ diskId }) => diskId);
    const id = randomUUID();
    await this.insist('POST', `/vms/${vm.id}/backups`, { id, disks: diskIds.map((diskId) => ({ id: diskId })) });
    const phase = (): string => bench.db.backups.get(id)?.phase ?? 'FAILED';
    await bench.until(() => ['READY', 'FAILED'].includes(phase()), 'backup ready or failed');
    if (phase() === 'FAILED') return;
    const transfers = await Promise.all(diskIds.map((diskId) => this.download(diskId, id)));
    await bench.until(() => transfers.every((transfer) => this.hasEnded(transfer)), 'transfers ended');
    await bench.until(async () => {
      if (phase() !== 'READY' || bench.db.backups.get(id)?.stopRequested === true) return true;
      return (await this.attempt('POST', `/vms/${vm.id}/backups/${id}/finalize`))?.status === 200;
    }, 'finalize accepted');
    await bench.until(() => ['SUCCEEDED', 'FAILED'].includes(phase()), 'backup ended');
  }

  async snapshotAndRemove(): Promise<void> {
    const { bench, vm } = this;
    const regular = (): string | undefined =>
      bench.db.snapshots.find((snapshot) => snapshot.vmId === vm.id && snapshot.type === 'regular')?.id;
    await bench.until(() => regular() === undefined && isQuiet(bench), 'automatic snapshot gone');
    await this.insist('POST', `/vms/${vm.id}/snapshots`, { description: 'mine', persist_memorystate: false });
    await bench.until(() => isQuiet(bench), 'snapshot made or undone');
    await bench.until(async () => {
      const id = regular();
      if (id === undefined) return true;
      if (bench.db.snapshots.get(id)?.status === 'ok') await this.attempt('DELETE', `/vms/${vm.id}/snapshots/${id}`);
      return regular() === undefined;
    }, 'snapshot removed');
  }

  private async download(diskId: string, backupId: string): Promise<string> {
    const body = { disk: { id: diskId }, backup: { id: backupId }, direction: 'download', format: 'raw' };
    const answer = await this.attempt('POST', '/imagetransfers', body);
    // Whether it was made before the engine went away is found by looking.
    const known = this.bench.db.transfers.find((transfer) => transfer.diskId === diskId && transfer.backupId === backupId)?.id;
    const id = answer === undefined ? (known ?? '') : text(answer.body['id']);
    await this.bench.until(
      async () => this.hasEnded(id) || (await this.attempt('POST', `/imagetransfers/${id}/finalize`))?.status === 200,
      'asked to end',
    );
    return id;
  }

  private hasEnded(transferId: string): boolean {
    const phase = this.bench.db.transfers.get(transferId)?.phase;
    return phase === undefined || phase === 'finished_success' || phase === 'finished_failure';
  }

  private async insist(method: string, path: string, body: object): Promise<void> {
    await this.bench.until(async () => (await this.attempt(method, path, body)) !== undefined, `an answer to ${method} ${path}`);
  }

  /** Undefined when the engine went away before it answered. */
  private async attempt(method: string, path: string, body: object = {}): Promise<Answer | undefined> {
    return this.bench.call(method, path, { ...body }).catch(() => undefined);
  }
}

async function killAfter(bench: EngineBench, pauses: readonly number[]): Promise<void> {
  for (const pause of pauses) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    await bench.restart();
  }
}

/** Nothing is under way, and what just ended has let go. */
function isQuiet(bench: EngineBench): boolean {
  const { db, locks } = bench.core;
  return (
    locks.list().length === 0 &&
    db.snapshots.list(({ pending }) => pending !== undefined).length === 0 &&
    db.disks.list(({ status }) => status !== 'ok').length === 0 &&
    db.transfers.list(({ phase }) => phase !== 'finished_success' && phase !== 'finished_failure').length === 0 &&
    db.backups.list(({ phase }) => phase !== 'SUCCEEDED' && phase !== 'FAILED').length === 0
  );
}

function expectNothingLeft(bench: EngineBench, fleet: FakeFleet, vm: Vm): void {
  const { db } = bench.core;
  expect(fleet.tickets.size).toBe(0);
  expect(fleet.exports.size).toBe(0);
  expect(fleet.backups.size).toBe(0);
  expect(db.snapshots.list().map(({ vmId, type }) => [vmId, type])).toEqual([[vm.id, 'active']]);
  expect(db.disks.list().map(({ contentType }) => contentType)).toEqual(['data', 'data']);
  expect(db.volumes.list(({ parentId }) => parentId !== undefined)).toEqual([]);
  expect(db.jobs.list(({ status }) => status === 'started')).toEqual([]);
  for (const checkpoint of db.checkpoints.list()) {
    for (const diskId of checkpoint.diskIds) {
      const leaf = db.volumes.require(db.disks.require(diskId).activeVolumeId ?? '');
      expect(fleet.bitmapsOf({ domainId: leaf.domainId, diskId, volumeId: leaf.id })).toContain(checkpoint.id);
    }
  }
}
