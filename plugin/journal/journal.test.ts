import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { MemoryJournalFile } from '../testing/memory-journal-file';
import { quietLogger } from '../testing/quiet-logger';
import { OperationErrors } from '../operations/operation-errors';
import { Journal } from './journal';
import { JournalErrors } from './journal-errors';
import { DiskJournalFile } from './journal-file';

const { logger } = quietLogger();
const intent = {
  operationId: 'op',
  platformId: 'p',
  vmId: 'vm',
  kind: 'backup' as const,
  mark: 'tidemark job=a session=s',
  objectId: 'b1',
};
const header = { operationId: 'op', kind: 'backup' as const, sessionId: 's', platformId: 'p', fingerprint: 'f', startedAt: 1 };

describe('the journal', () => {
  it('knows after a restart what is open and what has ended', async () => {
    const file = new MemoryJournalFile();
    const first = new Journal(file, logger);
    await first.open();
    await first.operationStarted(header);
    const backup = await first.intend(intent);
    const transfer = await first.intend({
      ...intent,
      kind: 'image-transfer',
      objectId: undefined,
      details: { diskId: 'd1', backupId: 'b1' },
    });
    await first.created(backup.entryId, 'b1', { toCheckpointId: 'c2' });
    await first.created(transfer.entryId, 't1');
    await first.removed(transfer.entryId);

    const second = new Journal(file, logger);
    await second.open();
    expect(second.openEntries('op')).toEqual([
      expect.objectContaining({ entryId: backup.entryId, state: 'created', details: { toCheckpointId: 'c2' } }),
    ]);
    expect(second.operations()).toEqual([{ header, end: undefined }]);

    const failure = OperationErrors.VM_BUSY({ vmId: 'vm', operationId: 'x' }, { retryDelayMs: 5 });
    await second.operationEnded('op', { outcome: 'failed', failure, createdId: '', disks: [], leftForJanitor: [] }, 7);
    await second.kept(backup.entryId);
    const third = new Journal(file, logger);
    await third.open();
    expect(third.openEntries()).toEqual([]);
    expect(third.operations()[0]?.end).toMatchObject({
      at: 7,
      result: { outcome: 'failed', failure: { code: 'VM_BUSY', retry: 'after-delay', retryDelayMs: 5 } },
    });
  });

  it('drops a torn last line and goes on behind the last whole one', async () => {
    const file = new MemoryJournalFile();
    const first = new Journal(file, logger);
    await first.open();
    await first.intend(intent);
    file.text += '{"v":1,"entry":{"entryId":"half';
    const second = new Journal(file, logger);
    await second.open();
    expect(second.openEntries()).toHaveLength(1);
    await second.intend({ ...intent, objectId: 'b2' });
    const third = new Journal(file, logger);
    await third.open();
    expect(third.openEntries().map((e) => e.objectId)).toEqual(['b1', 'b2']);
    expect(file.setAsideTexts).toEqual([]);
  });

  it('sets a damaged file aside and keeps what is whole', async () => {
    const file = new MemoryJournalFile();
    const first = new Journal(file, logger);
    await first.open();
    await first.intend(intent);
    file.text = `garbage\n${file.text}`;
    const second = new Journal(file, logger);
    await second.open();
    expect(second.openEntries()).toHaveLength(1);
    expect(file.setAsideTexts).toHaveLength(1);
  });

  it('refuses an intent that is not durable', async () => {
    const file = new MemoryJournalFile();
    const journal = new Journal(file, logger);
    await journal.open();
    file.beforeAppend = () => {
      throw JournalErrors.JOURNAL_WRITE_FAILED({ problem: 'ENOSPC' });
    };
    await expect(journal.intend(intent)).rejects.toMatchObject({ code: 'JOURNAL_WRITE_FAILED' });
    expect(file.text).toBe('');
  });

  it('stays small over many operations, and shares syncs between writers', async () => {
    const file = new MemoryJournalFile();
    const journal = new Journal(file, logger);
    await journal.open();
    for (let round = 0; round < 30; round += 1) {
      const entries = await Promise.all(Array.from({ length: 50 }, () => journal.intend(intent)));
      await Promise.all(entries.map((entry) => journal.removed(entry.entryId)));
    }
    expect(file.appends).toBeLessThan(130);
    expect(file.text.split('\n').length).toBeLessThan(2200);
    expect(journal.openEntries()).toEqual([]);
  });
});

describe('the journal file', () => {
  let folder: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-journal-'));
  });
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  it('appends, replaces and reads back', async () => {
    const name = path.join(folder, 'deep', 'journal');
    const file = new DiskJournalFile(name);
    expect(await file.read()).toBe('');
    await file.append('a\n');
    await file.append('b\n');
    expect(fs.readFileSync(name, 'utf8')).toBe('a\nb\n');
    await file.replace('c\n');
    await file.append('d\n');
    await file.close();
    const again = new DiskJournalFile(name);
    expect(await again.read()).toBe('c\nd\n');
    await again.append('e\n');
    await again.close();
    expect(fs.readFileSync(name, 'utf8')).toBe('c\nd\ne\n');
    expect(fs.statSync(name).mode & 0o777).toBe(0o600);
  });

  it('says so when it cannot write', async () => {
    fs.writeFileSync(path.join(folder, 'plain'), '');
    const file = new DiskJournalFile(path.join(folder, 'plain', 'journal'));
    await expect(file.append('a\n')).rejects.toMatchObject({ code: 'JOURNAL_WRITE_FAILED', retry: 'after-operator' });
  });
});
