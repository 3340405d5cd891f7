/** What a collection clears away beside blocks: announcements that everybody has read, what ended sessions left, leftovers of writers that are gone. */
import { announcementName } from '../../format/announcement';
import { encodeSession, sessionName } from '../../format/session-record';
import { readAhead } from '../../repository/read-ahead';
import type { Repository } from '../../repository/repository';
import { listAnnouncements } from '../../repository/sharing/announcements';
import { deleteDrafts, listDrafts } from '../../sessions/drafts';
import type { CollectContext } from './collect-context';
import type { PlanBook } from './plan-book';
import { readSession, sessionIds } from './session-records';

const readsAtOnce = 8;

export class Sweeper {
  constructor(
    private readonly repository: Repository,
    private readonly context: CollectContext,
  ) {}

  /** `covered`: of each writer the newest announcement that the roster covers. What follows may only be swept when that roster counts. */
  async sweep(book: PlanBook, covered: ReadonlyMap<string, number>): Promise<void> {
    const { repository } = this;
    const writers = await repository.writers.list();
    await this.sweepAnnouncements(book, covered);
    const gone = new Set(writers.filter((writer) => writer.isGone).map((writer) => writer.instanceId));
    await this.sweepSessions((owner) => gone.has(owner) || !writers.some((writer) => writer.instanceId === owner));
    await this.sweepDrafts();
    for (const instanceId of gone) if (instanceId !== repository.writerId) await repository.store.removeLeftovers(instanceId);
    // Last: they say how far the announcements were read.
    const obeyed = Math.min(...writers.filter((writer) => !writer.isGone).map((writer) => writer.acknowledged));
    for (const plan of book.ended()) if (obeyed > (plan.endedAfter ?? Infinity)) await book.forget(plan.number);
  }

  /** A plan was deleted only after all writers had acknowledged it, and with that read every announcement of before. */
  private async sweepAnnouncements(book: PlanBook, covered: ReadonlyMap<string, number>): Promise<void> {
    const read = new Map<string, number>();
    for (const { journals } of book.in('done'))
      for (const { instanceId, sequence } of journals) read.set(instanceId, Math.max(read.get(instanceId) ?? 0, sequence));
    if (read.size === 0) return;
    for (const [instanceId, sequences] of await listAnnouncements(this.repository.store)) {
      const newest = sequences.at(-1) ?? 0;
      // The newest stays: whoever starts again with this instance id goes on from it, as everybody expects. In ascending order, so that no hole is left.
      const until = Math.min(read.get(instanceId) ?? 0, covered.get(instanceId) ?? 0);
      for (const sequence of sequences)
        if (sequence < newest && sequence <= until) await this.repository.store.delete(announcementName(instanceId, sequence));
    }
  }

  /** Records of sessions that ended long ago go; open ones whose mover is gone, and that nobody took over for a whole lease, are aborted. */
  private async sweepSessions(isGone: (owner: string) => boolean): Promise<void> {
    const { store, keys } = this.repository;
    const { memory, settings, logger, now } = this.context;
    const read = async (id: string) => ({ id, name: sessionName(id), found: await readSession(this.repository, sessionName(id)) });
    for await (const { id, name, found } of readAhead(await sessionIds(this.repository), readsAtOnce, read)) {
      if (!found) continue;
      const { state, endedAt, owner, leaseDurationMs } = found.content;
      if (state !== 'open') {
        memory.forget(name);
        if (now() - Date.parse(endedAt ?? '') > settings.keepSessionsMs) await store.swap(name, found.bytes, undefined);
      } else if (owner === undefined || !isGone(owner)) memory.forget(name);
      else if (memory.abandonedFor(name, found.bytes) >= leaseDurationMs) {
        const aborted = { ...found.content, state: 'aborted' as const, endedAt: new Date(now()).toISOString() };
        if (await store.swap(name, found.bytes, encodeSession(aborted, keys?.document(name))))
          logger.info('session aborted: its mover is gone and nobody took it over', { sessionId: id, owner });
      }
    }
  }

  /** A session writes its record before its drafts: where there is none, or it ended, nobody needs them. */
  private async sweepDrafts(): Promise<void> {
    const { repository } = this;
    const sessions = new Set((await listDrafts(repository.store)).map(({ sessionId }) => sessionId));
    for (const id of sessions)
      if ((await readSession(repository, sessionName(id)))?.content.state !== 'open') await deleteDrafts(repository.store, id);
  }
}
