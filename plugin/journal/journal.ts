/**
 * What the plug-in created or is about to create in engines, so that a crash at any line is recoverable: an intent is durable before the
 * request is sent, with enough to find the object again. Owns the file and its compaction; does not know what the objects mean.
 * The format is written in `records.ts`.
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from '../../common/log/logger';
import type { ResultEvent } from '../operations/events';
import type { OperationHeader } from '../operations/operation';
import type { JournalFile } from './journal-file';
import { restoreResult, storeResult } from './records';
import type { EntryState, JournalEntry, JournalRecord, StoredResult } from './records';

/** What is needed to write an intent. */
export type Intent = Pick<JournalEntry, 'operationId' | 'platformId' | 'vmId' | 'kind' | 'mark'> & {
  readonly objectId?: string | undefined;
  readonly details?: Readonly<Record<string, string>>;
};

export interface KnownOperation {
  readonly header: OperationHeader;
  readonly end?: { readonly at: number; readonly result: Omit<ResultEvent, 'type'> } | undefined;
}

/** Lines beyond what lives; a rewrite costs little and comes seldom. */
const compactionSlack = 2000;

export class Journal {
  readonly #entries = new Map<string, JournalEntry>();
  readonly #operations = new Map<string, { header: OperationHeader; end?: { at: number; result: StoredResult } }>();
  readonly #queue: { text: string; resolve(): void; reject(error: unknown): void }[] = [];
  #writing: Promise<void> | undefined;
  #lines = 0;

  constructor(
    private readonly file: JournalFile,
    private readonly logger: Logger,
    private readonly now: () => number = Date.now,
  ) {}

  /** Reads what is there; a torn last line (a crash while writing) is dropped, other damage is set aside and reported. */
  async open(): Promise<void> {
    const text = await this.file.read();
    const lines = text.split('\n');
    const torn = lines.pop() ?? '';
    let damaged = 0;
    for (const line of lines) {
      try {
        this.#apply(JSON.parse(line) as JournalRecord);
      } catch (error) {
        damaged += 1;
        this.logger.error('a line of the journal is damaged', { error });
      }
    }
    this.#lines = lines.length;
    if (damaged > 0) await this.file.setAside(text);
    if (damaged > 0 || torn !== '') await this.#compact();
  }

  /** Entries that are not at their end, oldest first. */
  openEntries(operationId?: string): JournalEntry[] {
    return [...this.#entries.values()].filter((e) => operationId === undefined || e.operationId === operationId);
  }

  operations(): KnownOperation[] {
    return [...this.#operations.values()].map(({ header, end }) => ({
      header,
      end: end && { at: end.at, result: restoreResult(end.result) },
    }));
  }

  /** Durable when it resolves; only then may the object be created. Throws JOURNAL_WRITE_FAILED. */
  async intend(intent: Intent): Promise<JournalEntry> {
    const entry: JournalEntry = { details: {}, ...intent, entryId: randomUUID(), state: 'intent', intendedAt: this.now() };
    await this.#write({ v: 1, entry });
    return entry;
  }

  /** The object is there: its id and what else came with it. */
  created(entryId: string, objectId: string, details: Readonly<Record<string, string>> = {}): Promise<void> {
    return this.#move(entryId, 'created', objectId, details);
  }

  /** More is known of it; its state stays. */
  async noted(entryId: string, details: Readonly<Record<string, string>>): Promise<void> {
    const entry = this.#entries.get(entryId);
    if (entry) await this.#move(entryId, entry.state, undefined, details);
  }

  /** It was seen to be gone, or was never made. */
  removed(entryId: string): Promise<void> {
    return this.#move(entryId, 'removed');
  }

  /** It is the user's now: a committed checkpoint, a restored VM. */
  kept(entryId: string): Promise<void> {
    return this.#move(entryId, 'kept');
  }

  operationStarted(header: OperationHeader): Promise<void> {
    return this.#write({ v: 1, started: header });
  }

  operationEnded(operationId: string, result: Omit<ResultEvent, 'type'>, at: number): Promise<void> {
    return this.#write({ v: 1, ended: { operationId, at, result: storeResult(result) } });
  }

  /** Lazily durable: forgetting again after a crash does no harm. */
  forgetOperation(operationId: string): void {
    this.#write({ v: 1, forget: operationId }).catch((error: unknown) => {
      this.logger.warn('journal could not forget an operation', { operationId, error });
    });
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.file.close();
  }

  async #move(entryId: string, state: EntryState, objectId?: string, details?: Readonly<Record<string, string>>): Promise<void> {
    const entry = this.#entries.get(entryId);
    // Already at its end: the flow and the janitor may both have seen it go.
    if (!entry) return;
    const next = { ...entry, state, details: { ...entry.details, ...details }, ...(objectId === undefined ? {} : { objectId }) };
    await this.#write({ v: 1, entry: next });
  }

  #apply(record: JournalRecord): void {
    if ('entry' in record) {
      const { entry } = record;
      if (entry.state === 'removed' || entry.state === 'kept') this.#entries.delete(entry.entryId);
      else this.#entries.set(entry.entryId, entry);
    } else if ('started' in record) {
      this.#operations.set(record.started.operationId, { header: record.started });
    } else if ('ended' in record) {
      const known = this.#operations.get(record.ended.operationId);
      if (known) known.end = { at: record.ended.at, result: record.ended.result };
    } else {
      this.#operations.delete(record.forget);
    }
  }

  /** Applied at once, so that memory never lags behind the medium; resolved when durable. Writers share one sync. */
  #write(record: JournalRecord): Promise<void> {
    this.#apply(record);
    return new Promise((resolve, reject) => {
      this.#queue.push({ text: `${JSON.stringify(record)}\n`, resolve, reject });
      this.#writing ??= this.#drain();
    });
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0);
      try {
        await this.file.append(batch.map((item) => item.text).join(''));
        this.#lines += batch.length;
        for (const item of batch) item.resolve();
      } catch (error) {
        for (const item of batch) item.reject(error);
      }
      if (this.#lines > compactionSlack + 2 * (this.#entries.size + 2 * this.#operations.size)) {
        await this.#compact().catch((error: unknown) => this.logger.warn('journal could not be compacted', { error }));
      }
    }
    // In the same turn as the last look at the queue, else a record could be queued with nobody to write it.
    this.#writing = undefined;
  }

  async #compact(): Promise<void> {
    const records: JournalRecord[] = [];
    for (const { header, end } of this.#operations.values()) {
      records.push({ v: 1, started: header });
      if (end) records.push({ v: 1, ended: { operationId: header.operationId, ...end } });
    }
    for (const entry of this.#entries.values()) records.push({ v: 1, entry });
    await this.file.replace(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
    this.#lines = records.length;
  }
}
