/**
 * What this mover announces to the others of a repository, and what it reads of theirs: packs, points and other objects, without ever listing what
 * grows with the repository (docs/formats/concurrency.md).
 */
import { hasCode } from '../../../common/errors/tidemark-error';
import type { Logger } from '../../../common/log/logger';
import {
  announcementName,
  announcementOf,
  decodeAnnouncement,
  encodeAnnouncement,
  JOURNAL_PREFIX,
  type Announcement,
} from '../../format/announcement';
import type { Store } from '../../stores/store';
import type { RepositoryKeys } from '../keys/repository-keys';
import { SerialQueue } from '../../../common/flow/serial-queue';
import { WRITER_PREFIX, writerOf } from './writer-lease';

const maxAnnouncementBytes = 64 * 1024 * 1024;

/** What others announced since the last look. */
export interface Announced {
  readonly packs: ReadonlySet<string>;
  readonly manifests: ReadonlySet<string>;
  readonly changed: ReadonlySet<string>;
  /** An announcement could not be read: everything has to be looked at. */
  readonly everything: boolean;
}

/** What is told, and was not yet. */
type Untold = Pick<Announcement, 'packs' | 'manifests' | 'changed'>;

export class Journal {
  /** The next sequence to read, by instance id. */
  private readonly next = new Map<string, number>();
  private packs: string[] = [];
  private manifests: string[] = [];
  private changed: string[] = [];
  /**
   * An announcement whose write failed and may be there all the same. Others may have read it, and do not read its name again: it is written once more
   * as it was, and what came since gets the next sequence.
   */
  private unsure: Untold | undefined;
  private readonly writing = new SerialQueue();
  private readonly reading = new SerialQueue();

  private constructor(
    private readonly store: Store,
    /** Absent for a reader. */
    private readonly instanceId: string | undefined,
    private readonly keys: RepositoryKeys | undefined,
    private readonly logger: Logger,
  ) {}

  /** Notes how far everybody's announcements go. Everything that is listed after this was announced before or will be read. */
  static async open(store: Store, instanceId: string | undefined, keys: RepositoryKeys | undefined, logger: Logger): Promise<Journal> {
    const journal = new Journal(store, instanceId, keys, logger);
    for await (const name of store.list(JOURNAL_PREFIX)) {
      const found = announcementOf(name);
      if (found) journal.next.set(found.instanceId, Math.max(journal.next.get(found.instanceId) ?? 1, found.sequence + 1));
    }
    return journal;
  }

  /** Notes a pack that is durable, for the next announcement. */
  notePack(id: string): void {
    this.packs.push(id);
  }

  /** A manifest that could not be told of yet was deleted by a collection: telling of it now would have it missed. */
  untell(manifest: string): void {
    const left = (names: readonly string[]) => names.filter((name) => name !== manifest);
    this.manifests = left(this.manifests);
    if (this.unsure) this.unsure = { ...this.unsure, manifests: left(this.unsure.manifests) };
  }

  /** True while packs that were noted are not announced. */
  get hasUntold(): boolean {
    return this.packs.length + (this.unsure?.packs.length ?? 0) > 0;
  }

  /** Makes packs noted, and objects named here, known to other movers. Durable when it resolves. Throws as `Store.put`; then it can be repeated. */
  announce(what: { readonly manifest?: string; readonly changed?: string | readonly string[] } = {}): Promise<void> {
    if (what.manifest !== undefined) this.manifests.push(what.manifest);
    if (what.changed !== undefined) this.changed.push(...[what.changed].flat());
    return this.writing.run(async () => {
      if (this.unsure) await this.write(this.unsure);
      const { packs, manifests, changed } = this;
      if (packs.length + manifests.length + changed.length > 0) await this.write({ packs, manifests, changed });
    });
  }

  private async write(told: Untold): Promise<void> {
    const { instanceId } = this;
    if (instanceId === undefined) return;
    if (told !== this.unsure) [this.packs, this.manifests, this.changed] = [[], [], []];
    this.unsure = told;
    const sequence = this.next.get(instanceId) ?? 1;
    const name = announcementName(instanceId, sequence);
    await this.store.put(name, encodeAnnouncement({ announcedAt: new Date().toISOString(), ...told }, this.keys?.document(name)));
    this.next.set(instanceId, sequence + 1);
    this.unsure = undefined;
  }

  /** What other movers announced since the last look; `take` has it in hand before it counts as read. Throws what `take` throws, and as `Store.read`. */
  async read(take: (announced: Announced) => Promise<void>): Promise<void> {
    await this.reading.run(async () => {
      const announced = { packs: new Set<string>(), manifests: new Set<string>(), changed: new Set<string>() };
      let everything = false;
      const next = new Map<string, number>();
      for await (const name of this.store.list(WRITER_PREFIX)) {
        const instanceId = writerOf(name);
        if (instanceId === undefined || instanceId === this.instanceId) continue;
        let sequence = this.next.get(instanceId) ?? 1;
        for (; ; sequence++) {
          const announcement = await this.one(announcementName(instanceId, sequence));
          if (announcement === undefined) break;
          if (announcement === 'damaged') {
            everything = true;
            continue;
          }
          for (const key of ['packs', 'manifests', 'changed'] as const) for (const one of announcement[key]) announced[key].add(one);
        }
        next.set(instanceId, sequence);
      }
      const { packs, manifests, changed } = announced;
      if (everything || packs.size + manifests.size + changed.size > 0) await take({ ...announced, everything });
      for (const [instanceId, sequence] of next) this.next.set(instanceId, sequence);
    });
  }

  private async one(name: string): Promise<Announcement | 'damaged' | undefined> {
    let bytes: Buffer;
    try {
      bytes = await this.store.readWhole(name, maxAnnouncementBytes);
    } catch (error) {
      if (hasCode(error, 'OBJECT_NOT_FOUND')) return undefined;
      throw error;
    }
    try {
      return decodeAnnouncement(bytes, name, this.keys?.document(name));
    } catch (error) {
      // Another mover may have rotated the keys.
      if (this.keys) {
        await this.keys.reload();
        const again = safely(() => decodeAnnouncement(bytes, name, this.keys?.document(name)));
        if (again) return again;
      }
      this.logger.warn('an announcement of another mover is damaged; the repository is listed instead', { name, error });
      return 'damaged';
    }
  }
}

function safely<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
