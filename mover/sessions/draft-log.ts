/**
 * Writes down, in the repository, what of one disk is mapped to durable blocks, while the disk is being written; and reads it back. The last draft is
 * replaced until it is full, so that there are few of them: one for some 8 GiB of 1 MiB blocks. Calls do not overlap: the session serialises.
 */
import type { Logger } from '../../common/log/logger';
import { draftName, encodeDraft, type DraftHead, type MappedPage } from '../format/draft-record';
import type { Repository } from '../repository/repository';
import type { DiskDraft } from './disk-draft';
import { draftDiskKey, readDraft, type FoundDraft } from './drafts';

/** Entries and pages of one draft; kept in memory, some 1 MiB, while it may be replaced. */
const fullAt = 8_192;
/** Blocks that became durable in the repository are worth a draft before its time. */
const worthBytes = 256 * 1024 * 1024;

export class DraftLog {
  private readonly diskKey: string;
  private names: string[];
  private sequence: number;
  /** Content of the newest draft. */
  private tail: MappedPage[] = [];
  private tailSize = 0;
  /** The tail holds more than the store. */
  private isBehind = false;
  private writtenAt = -Infinity;
  /** What of the disk was mapped, and of the repository was durable, at the last writing. */
  private changesThen = 0;
  private entriesThen = 0;

  constructor(
    private readonly repository: Repository,
    private readonly sessionId: string,
    private readonly generation: number,
    diskId: string,
    found: readonly FoundDraft[],
  ) {
    this.diskKey = draftDiskKey(repository.digestKey, diskId);
    this.names = found.filter(({ diskKey }) => diskKey === this.diskKey).map(({ name }) => name);
    this.sequence = Math.max(0, ...found.filter((one) => one.generation === generation).map(({ sequence }) => sequence)) + 1;
  }

  /** Maps in a fresh disk what earlier lives of the session wrote down of the same content. What cannot be used is deleted: it is sent again. */
  async restore(draft: DiskDraft, logger: Logger): Promise<void> {
    const { store, keys } = this.repository;
    const kept: string[] = [];
    for (const name of this.names) {
      try {
        const written = await readDraft(store, name, keys);
        if (!written) continue;
        if (!draft.isSame(written.head)) {
          await store.delete(name);
          continue;
        }
        draft.restore(written.head, written.pages);
      } catch (error) {
        logger.warn('a draft cannot be read; what it covers is read again', { name, error });
      }
      kept.push(name);
    }
    this.names = kept;
  }

  /** True when something happened since the last writing and that is `intervalMs` ago, or much became durable. `now` in milliseconds of a clock that nobody sets. */
  isDue(draft: DiskDraft, now: number, intervalMs: number): boolean {
    const entries = this.repository.index.packs.totalEntries;
    if (!this.isBehind && draft.changeCount === this.changesThen && entries === this.entriesThen) return false;
    if (draft.changeCount === 0) return false;
    return now - this.writtenAt >= intervalMs || (entries - this.entriesThen) * this.repository.blockSizeBytes >= worthBytes;
  }

  /** Writes what became durable since the last time. Throws as `Store.put`, REPOSITORY_LOCK_LOST; then the next call makes up for it. */
  async write(draft: DiskDraft, now: number): Promise<void> {
    this.writtenAt = now;
    this.changesThen = draft.changeCount;
    this.entriesThen = this.repository.index.packs.totalEntries;
    // Not across all of it: a collection must not wait for more than one object.
    while (await this.repository.referencing(() => this.writeOne(draft)));
  }

  /** Removes what was written: the disk is committed, or the session has ended. Throws as `Store.delete`. */
  async delete(): Promise<void> {
    this.tail = [];
    this.tailSize = 0;
    this.isBehind = false;
    while (this.names.length > 0) {
      await this.repository.store.delete(this.names.at(-1) as string);
      this.names.pop();
    }
  }

  /** True when there may be more. */
  private async writeOne(draft: DiskDraft): Promise<boolean> {
    const { repository, sessionId, generation, diskKey, sequence } = this;
    const more = draft.takeDurable(fullAt - this.tailSize);
    for (const page of more) {
      this.tail.push(page);
      this.tailSize += 1 + page.positions.length;
      this.isBehind = true;
    }
    if (!this.isBehind) return false;
    await repository.announcePacks();
    await repository.assertWritable();
    const name = draftName({ sessionId, diskKey, generation, sequence });
    const head: DraftHead = { sessionId, ...draft.head };
    if (this.names.at(-1) !== name) this.names.push(name);
    await repository.store.put(name, encodeDraft(head, this.tail, repository.keys?.document(name)));
    this.isBehind = false;
    if (this.tailSize < fullAt) return false;
    this.sequence++;
    this.tail = [];
    this.tailSize = 0;
    return true;
  }
}
