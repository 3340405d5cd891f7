import { CommonErrors } from '../../common/errors/common-errors';
import { eventually } from '../testing/eventually';
import { EngineErrors } from '../engine/engine-errors';
import { engineBackupSnapshot } from '../engine/snapshots';
import { MemoryJournalFile } from '../testing/memory-journal-file';
import { Mortal } from '../testing/mortal';
import { backupOf, newEngine, platformId, quick, runBackup, startBench } from '../testing/protection-bench';
import type { Bench } from '../testing/protection-bench';
import { quietLogger } from '../testing/quiet-logger';
import type { Cleaner } from './cleaner';
import { Janitor, defaultJanitorPace } from './janitor';

/** Runs a backup until it transfers, then kills the process. */
async function killedWhileTransferring(
  engine = newEngine(),
): Promise<{ file: MemoryJournalFile; engine: typeof engine; operationId: string; dead: Bench }> {
  const file = new MemoryJournalFile();
  const dead = await startBench({ engine, file, mortal: new Mortal() });
  const vm = [...engine.vmsById.values()][0] ?? engine.addVm('web', [{}, {}]);
  dead.worker.answer = () => 'hang';
  const request = backupOf(vm);
  await dead.protection.startBackup(request, 'f');
  await eventually('both tasks', () => dead.worker.tasks.length === 2);
  dead.mortal.kill();
  await dead[Symbol.asyncDispose]();
  return { file, engine, operationId: request.operationId, dead };
}

describe('the janitor', () => {
  it('brings the engine back to order after a kill, reports it and tells the host', async () => {
    const { file, engine, operationId } = await killedWhileTransferring();
    expect(engine.leftovers().length).toBeGreaterThan(2);
    await using at = await startBench({ engine, file });
    expect(at.registry.get(operationId).result).toMatchObject({ outcome: 'failed', failure: { code: 'PLUGIN_RESTARTED' } });
    expect(at.janitor.hasPending(platformId)).toBe(true);
    at.janitor.start();
    await eventually('a clean engine', () => engine.leftovers().length === 0 && at.journal.openEntries().length === 0);
    await eventually('the report', () => at.janitor.report().length === 3);
    expect(
      at.janitor
        .report()
        .map((l) => `${l.kind} ${l.state}`)
        .sort(),
    ).toEqual(['backup removed', 'image-transfer removed', 'image-transfer removed']);
    expect(at.janitor.lastSweepAt).toBeDefined();
    expect(at.reported).toHaveLength(3);
    expect(at.reported[0]).toMatchObject({
      code: 'LEFTOVER_REMOVED',
      severity: 'info',
      references: { platform_id: platformId, operation_id: operationId },
    });
    expect(at.janitor.hasPending(platformId)).toBe(false);
    expect([...engine.vmsById.values()][0]!.checkpoints).toEqual([]);
  });

  it('finds by its id a backup whose start was never answered, and reports it; what was never made it does not', async () => {
    for (const arrived of [true, false]) {
      const engine = newEngine();
      const file = new MemoryJournalFile();
      const vm = engine.addVm('web', [{}]);
      const mortal = new Mortal();
      const dead = await startBench({ engine, file, mortal });
      const hook = (call: string) => {
        if (call === 'backups.start') mortal.kill();
      };
      engine.before = (call) => {
        hook(call);
        if (call === 'backups.start' && !arrived) throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'reset' });
      };
      await dead.protection.startBackup(backupOf(vm), 'f');
      await eventually('death', () => mortal.dead);
      engine.before = () => undefined;
      await dead[Symbol.asyncDispose]();
      expect(engine.leftovers().length > 0).toBe(arrived);
      await using at = await startBench({ engine, file });
      at.janitor.start();
      await eventually('all settled', () => at.journal.openEntries().length === 0 && engine.leftovers().length === 0);
      await eventually('a sweep', () => at.janitor.lastSweepAt !== undefined);
      expect(at.reported.map((e) => e.code)).toEqual(arrived ? ['LEFTOVER_REMOVED'] : []);
    }
  });

  it('looks for what a request that timed out may still bring, from when it begins to look', async () => {
    await using at = await startBench();
    const { engine } = at;
    const vm = engine.addVm('web', [{}]);
    const [diskId = ''] = vm.attachments.map((one) => one.diskId);
    const details = { diskId, direction: 'download' };
    await at.journal.intend({ operationId: 'gone', platformId, vmId: vm.vm.id, kind: 'image-transfer', mark: '', details });
    // The request itself took longer to time out than an answer that was lost is looked for.
    for (const until = quick.now() + 10 * 60_000; quick.now() < until;) await quick.sleep(5_000);
    await at.janitor.sweep(600_000);
    expect(at.journal.openEntries()).toHaveLength(1);
    const late = await engine.asEngine().transfers.create({ direction: 'download', diskId });
    at.janitor.start();
    await eventually(
      'its end',
      () => at.journal.openEntries().length === 0 && engine.transfersById.get(late.id)?.phase === 'finished_failure',
    );
  });

  it('does not wait for an engine that takes requests and never answers', async () => {
    await using at = await startBench();
    const entry = { vmId: 'v', kind: 'backup' as const, mark: '', objectId: 'b' };
    for (const [operationId, platform] of [
      ['hung', 'p-hung'],
      ['other', 'p-other'],
    ] as const)
      await at.journal.intend({ ...entry, operationId, platformId: platform });
    const settle: Cleaner['settle'] = async (operationId, { signal }) => {
      if (operationId === 'hung')
        return await new Promise((_, reject) =>
          signal?.addEventListener('abort', () => reject(CommonErrors.CANCELLED({ what: operationId }))),
        );
      for (const one of at.journal.openEntries(operationId)) await at.journal.removed(one.entryId);
      return [];
    };
    const { logger } = quietLogger();
    const pace = { ...defaultJanitorPace, busyMs: 1, lookMs: 50 };
    const events = { report: () => undefined };
    const janitor = new Janitor(at.journal, at.registry, { settle } as Cleaner, events, quick, logger, pace);
    janitor.start();
    await eventually('the other one', () => at.journal.openEntries('other').length === 0);
    await at.journal.intend({ ...entry, operationId: 'later', platformId: 'p-other' });
    await eventually('a later one', () => at.journal.openEntries('later').length === 0);
    expect(at.journal.openEntries('hung')).toHaveLength(1);
    await janitor.stop();
  });

  it('leaves running operations and strangers alone', async () => {
    await using at = await startBench();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.disksById.set('s', {
      ...at.engine.addDisk({ name: 'stranger' }),
      id: 's',
      status: 'locked',
      description: 'tidemark restore session=other',
    });
    at.worker.answer = () => 'hang';
    const request = backupOf(vm);
    await at.protection.startBackup(request, 'f');
    await eventually('the task', () => at.worker.tasks.length === 1);
    expect(await at.janitor.sweep(60_000)).toEqual([]);
    expect(vm.backups[0]?.phase).toBe('ready');
    expect(at.engine.disksById.has('s')).toBe(true);
    at.protection.cancel(request.operationId);
    await eventually('the end', () => at.registry.get(request.operationId).result !== undefined);
  });

  it('goes on while the engine is away, and says so', async () => {
    const { file, engine } = await killedWhileTransferring();
    engine.away = true;
    await using at = await startBench({ engine, file });
    at.janitor.start();
    await eventually('a report', () => at.janitor.report().some((l) => l.state === 'pending' && /does not answer|Waits/.test(l.message)));
    engine.away = false;
    await eventually('a clean engine', () => engine.leftovers().length === 0 && at.journal.openEntries().length === 0);
  });

  it('calls what does not go stuck, with advice, and goes on trying', async () => {
    const { file, engine } = await killedWhileTransferring();
    engine.ticketsStuck = true;
    await using at = await startBench({ engine, file });
    at.janitor.start();
    await eventually('stuck', () => at.janitor.report().some((l) => l.state === 'stuck' && l.kind === 'image-transfer'));
    expect(at.reported.find((e) => e.code === 'LEFTOVER_STUCK')).toMatchObject({ severity: 'error' });
    engine.ticketsStuck = false;
    await eventually('a clean engine', () => engine.leftovers().length === 0 && at.journal.openEntries().length === 0);
    await eventually('all settled', () => at.janitor.report().every((l) => l.state === 'removed'));
  });

  it('names a disk that stays locked, and the tool that frees it', async () => {
    const { file, engine } = await killedWhileTransferring();
    const [disk] = engine.disksById.values();
    Object.defineProperty(disk, 'status', { get: () => 'locked', set: () => undefined, configurable: true });
    await using at = await startBench({ engine, file });
    at.janitor.start();
    await eventually('stuck', () => at.janitor.report().some((l) => l.state === 'stuck' && l.kind === 'disk-lock'));
    expect(at.janitor.report().find((l) => l.kind === 'disk-lock')).toMatchObject({
      id: disk!.id,
      message: expect.stringContaining('unlock_entity.sh'),
    });
    Object.defineProperty(disk, 'status', { value: 'ok', writable: true, configurable: true });
    await eventually('settled', () => at.journal.openEntries().length === 0);
  });

  it('needs a person when a permit is missing', async () => {
    const { file, engine } = await killedWhileTransferring();
    engine.before = (call) => {
      if (call === 'transfers.cancel') throw EngineErrors.ENGINE_PERMISSION_MISSING({ operation: call, detail: 'EDIT_DISK_PROPERTIES' });
    };
    await using at = await startBench({ engine, file });
    const leftovers = await at.janitor.sweep(600_000);
    expect(leftovers.filter((l) => l.state === 'stuck')).toHaveLength(2);
    engine.before = () => undefined;
    await at.janitor.sweep(600_000);
    expect(engine.leftovers()).toEqual([]);
  });

  it('removes the snapshot that a hybrid backup of ours left, but not that of another product', async () => {
    const engine = newEngine();
    engine.level = { major: 4, minor: 7 };
    const vm = engine.addVm('web', [{}, {}]);
    engine.failingMerges = 1;
    const { file } = await killedWhileTransferring(engine);
    const foreign = engine.addVm('other', [{}]);
    foreign.snapshots.push({ ...foreign.snapshots[0]!, id: 'foreign', type: 'regular', description: engineBackupSnapshot });
    await using at = await startBench({ engine, file });
    at.janitor.start();
    await eventually('no snapshot of ours', () => vm.snapshots.length === 1 && at.journal.openEntries().length === 0);
    expect(foreign.snapshots).toHaveLength(2);
  });

  it('cleans up after a flow that could not', async () => {
    await using at = await startBench();
    at.janitor.start();
    const vm = at.engine.addVm('web', [{}]);
    at.engine.ticketsStuck = true;
    at.worker.answer = () => ({ failure: EngineErrors.ENGINE_NOT_FOUND({ what: 'x' }) });
    const run = await runBackup(at, backupOf(vm));
    expect(run.result.outcome).toBe('failed');
    expect(run.result.leftForJanitor.length).toBeGreaterThan(0);
    at.engine.ticketsStuck = false;
    await eventually('a clean engine', () => at.engine.leftovers().length === 0 && at.journal.openEntries().length === 0);
  });
});
