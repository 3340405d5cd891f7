import { toTidemarkError } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { hasCode } from '../../common/errors/tidemark-error';
import type { CareKind, CareStore } from '../catalogue/care-store';
import type { EventStore } from '../catalogue/event-store';
import type { RepositoryRow, RepositoryStore } from '../catalogue/repository-store';
import type { SessionStore } from '../catalogue/session-store';
import type { SettingStore } from '../catalogue/setting-store';
import type { ConfigurationCopies } from '../configuration/configuration-copies';
import { isOfRepository } from '../jobs/session-beginning';
import type { SessionEngine } from '../jobs/session-engine';
import type { SessionRecord } from '../jobs/session-record';
import { storedFailure } from '../jobs/task-context';
import type { StoredFailure } from '../jobs/task-record';
import { dueNow } from './due';

/**
 * Does for every repository what nobody should have to think of: copies of the configuration, collections, verifications; and keeps what became of
 * them, also of those that somebody started by hand. One that failed is an event.
 */
export class CareKeeper implements Service {
  readonly name = 'care-keeper';
  #timer: NodeJS.Timeout | undefined;
  #turn: Promise<void> | undefined;
  /** Ends that are being written down. */
  readonly #notes = new Set<Promise<void>>();

  constructor(
    private readonly repositories: RepositoryStore,
    private readonly care: CareStore,
    private readonly sessions: SessionStore,
    private readonly engine: SessionEngine,
    private readonly copies: ConfigurationCopies,
    private readonly settings: SettingStore,
    private readonly events: EventStore,
    private readonly logger: Logger,
    private readonly now: () => Date,
    private readonly everyMs = 5_000,
  ) {
    engine.onEnded((session) => {
      if (!isOfRepository(session)) return;
      const note = this.#ended(session)
        .catch((error: unknown) => this.logger.warn('the end of maintenance could not be kept', { sessionId: session.id, error }))
        .finally(() => this.#notes.delete(note));
      this.#notes.add(note);
    });
  }

  async start(): Promise<void> {
    this.#timer = setInterval(() => void this.tick(), this.everyMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#turn;
    await Promise.all(this.#notes);
  }

  /** Looks once, unless a look is under way; never rejects. */
  tick(): Promise<void> {
    this.#turn ??= this.#look()
      .catch((error: unknown) => this.logger.error('maintenance could not be looked at', { error }))
      .finally(() => (this.#turn = undefined));
    return this.#turn;
  }

  async #look(): Promise<void> {
    for (const row of await this.repositories.all()) {
      const { due, begin } = dueNow(await this.care.of(row.id), this.settings.current, this.now());
      for (const kind of begin) await this.care.tried(row.id, kind, this.now().toISOString());
      for (const kind of due) await this.#do(kind, row);
    }
  }

  async #do(kind: CareKind, row: RepositoryRow): Promise<void> {
    if (kind === 'copy') {
      await this.copies.copyTo(row);
      return;
    }
    await this.care.tried(row.id, kind, this.now().toISOString());
    const { verifyBytesPerSecond, verifyPeriodDays, collectBytesPerSecond } = this.settings.current;
    const order =
      kind === 'collect'
        ? { kind, dryRun: false, bytesPerSecond: collectBytesPerSecond }
        : { kind, pointId: '', bytesPerSecond: verifyBytesPerSecond, periodDays: verifyPeriodDays };
    try {
      await this.engine.startMaintenance(order, row, 'schedule');
    } catch (thrown) {
      // One that somebody started by hand does as well.
      if (hasCode(thrown, 'MAINTENANCE_RUNNING')) return;
      await this.#failed(kind, row, storedFailure(toTidemarkError(thrown, 'maintaining a repository')), '');
    }
  }

  async #ended(session: SessionRecord): Promise<void> {
    const { order, repositoryId, repositoryName, state } = session;
    if ((order.kind !== 'collect' && order.kind !== 'verify') || state === 'cancelled') return;
    // What was only tried out is no maintenance.
    if (order.kind === 'collect' && order.dryRun) return;
    const [task] = await this.sessions.tasks(session.id);
    const failure = task?.failure ?? session.failure;
    const foundDamage = failure?.code === 'VERIFY_FOUND_DAMAGE';
    if (failure === null || foundDamage) await this.care.done(repositoryId, order.kind, this.now().toISOString());
    if (failure !== null) await this.#failed(order.kind, { id: repositoryId, name: repositoryName }, failure, session.id);
  }

  async #failed(kind: CareKind, row: Pick<RepositoryRow, 'id' | 'name'>, failure: StoredFailure, sessionId: string): Promise<void> {
    await this.care.failed(row.id, kind, failure);
    await this.events.add({
      at: this.now(),
      source: 'host',
      severity: 'error',
      code: kind === 'collect' ? 'COLLECTION_FAILED' : 'VERIFICATION_FAILED',
      message: `${kind === 'collect' ? 'The collection' : 'The verification'} of repository ${row.name} failed: ${failure.message}`,
      references: {
        repository_id: row.id,
        repository_name: row.name,
        failure_code: failure.code,
        ...(sessionId !== '' && { session_id: sessionId }),
      },
    });
  }
}
