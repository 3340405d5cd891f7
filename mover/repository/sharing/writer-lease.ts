/**
 * A mover's lease on a repository that it writes to. Movers do not exclude each other; the lease says who is at work and which collections it
 * obeys, and it keeps two processes from writing under one instance id (a data folder that was copied). docs/formats/concurrency.md.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../../common/log/logger';
import { RepositoryErrors } from '../../errors/mover-errors';
import type { Store } from '../../stores/store';
import { encodeLease, isGone, ownLease, parseLease, readLease, watchLease, type LeaseContent, type LeaseWatch } from './lease-object';

export const WRITER_PREFIX = 'writers/';

export interface LockOptions {
  readonly instanceId: string;
  readonly leaseDurationMs: number;
  /** How long one try watches a foreign holder of the same instance id before it gives up. */
  readonly waitMs: number;
  /** What was seen of the holder before. Given to each try again, so that tries shorter than a lease find out a holder that is gone, too. */
  readonly watch?: LeaseWatch;
}

export class WriterLease {
  private timer: NodeJS.Timeout | undefined;
  private renewedAt = performance.now();
  private lost = false;
  private released = false;
  private renewal: Promise<void> = Promise.resolve();
  private following: Promise<unknown> | undefined;
  /** Number of the newest collection that is obeyed. */
  private obeyed = 0;

  private constructor(
    private readonly store: Store,
    private readonly repositoryId: string,
    private content: LeaseContent,
    private readonly logger: Logger,
  ) {}

  /** Writes the lease. It is not renewed before `keep`. Throws REPOSITORY_LOCKED while another process of the same instance id is alive. */
  static async acquire(store: Store, repositoryId: string, options: LockOptions, logger: Logger): Promise<WriterLease> {
    const content = ownLease(options.instanceId, randomUUID(), options.leaseDurationMs);
    const name = writerName(options.instanceId);
    const until = performance.now() + options.waitMs;
    const watch: LeaseWatch = options.watch ?? { text: '', since: 0 };
    for (;;) {
      if (await store.putNew(name, encodeLease(content))) break;
      const text = await readLease(store, name);
      if (text === undefined) continue;
      const holder = parseLease(text);
      watchLease(watch, text);
      if (isGone(holder, watch)) {
        if (!(await store.swap(name, Buffer.from(text), encodeLease(content)))) continue;
        break;
      }
      if (performance.now() >= until)
        throw RepositoryErrors.REPOSITORY_LOCKED({ holder: holder?.hostName ?? '' }, { retryDelayMs: options.leaseDurationMs });
      await sleep(Math.min(500, Math.max(10, until - performance.now())));
    }
    return new WriterLease(store, repositoryId, content, logger);
  }

  /** Renews the lease from now on. `before` runs with each renewal and tells the number of the newest collection that is obeyed. */
  keep(before: () => Promise<number>): void {
    this.schedule(before);
  }

  get instanceId(): string {
    return this.content.instanceId;
  }

  /** Throws REPOSITORY_LOCK_LOST when the lease ran out or another process has it. Reads it anew; call it before each manifest. */
  async assertHeld(): Promise<void> {
    if (!this.lost && !this.released && performance.now() - this.renewedAt < this.content.leaseDurationMs) {
      const text = await readLease(this.store, this.name);
      if (text !== undefined && parseLease(text)?.nonce === this.content.nonce) return;
      this.lost = true;
    }
    throw RepositoryErrors.REPOSITORY_LOCK_LOST({ repositoryId: this.repositoryId });
  }

  /** True once the lease ran out or somebody else was seen to hold it; it does not come back. */
  get isLost(): boolean {
    return this.lost || (!this.released && performance.now() - this.renewedAt >= this.content.leaseDurationMs);
  }

  /** Writes the lease with what is obeyed now. Throws as `assertHeld`. */
  async acknowledge(collection: number): Promise<void> {
    // The lease counts from before the write: a write that hangs must not make it longer.
    const startedAt = performance.now();
    await this.assertHeld();
    this.content = { ...this.content, acknowledged: collection, renewedAt: new Date().toISOString() };
    await this.store.put(this.name, encodeLease(this.content));
    this.renewedAt = startedAt;
    this.obeyed = Math.max(this.obeyed, collection);
  }

  /** Gives the lease up. The object stays: others still look for what was announced. */
  async release(): Promise<void> {
    this.released = true;
    clearTimeout(this.timer);
    await this.renewal;
    const text = await readLease(this.store, this.name).catch(() => undefined);
    if (text === undefined || parseLease(text)?.nonce !== this.content.nonce) return;
    await this.store.swap(this.name, Buffer.from(text), encodeLease({ ...this.content, released: true }));
  }

  private get name(): string {
    return writerName(this.content.instanceId);
  }

  private schedule(before: () => Promise<number>): void {
    if (this.released || this.lost) return;
    this.timer = setTimeout(() => {
      this.renewal = this.renew(before).finally(() => this.schedule(before));
    }, this.content.leaseDurationMs / 3);
    this.timer.unref();
  }

  private async renew(before: () => Promise<number>): Promise<void> {
    this.following ??= before()
      .then(
        (collection) => (this.obeyed = collection),
        // The lease is renewed all the same; what was not acknowledged is not deleted.
        (error: unknown) => this.logger.warn('looking at what other movers did failed', { repositoryId: this.repositoryId, error }),
      )
      .finally(() => (this.following = undefined));
    // It may wait for long commits, the lease must not.
    await Promise.race([this.following, sleep(this.content.leaseDurationMs / 6, undefined, { ref: false })]);
    try {
      await this.acknowledge(this.obeyed);
    } catch (error) {
      this.logger.warn('renewing the lease on a repository failed', { repositoryId: this.repositoryId, error });
    }
  }
}

/** Name of a mover's lease. */
export function writerName(instanceId: string): string {
  return `${WRITER_PREFIX}${instanceId}.lease`;
}

/** Instance id in a lease's name; undefined for foreign names. */
export function writerOf(name: string): string | undefined {
  return /^writers\/([\w-]+)\.lease$/.exec(name)?.[1];
}
