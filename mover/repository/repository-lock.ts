/**
 * Who may write to a repository: one mover at a time. A lease in the object `lock`, as docs/formats/repository.md has it. Nobody types `unlock`: a
 * holder that died is recognised on its own machine at once, and elsewhere after one lease without a sign of life.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { RepositoryErrors } from '../errors/mover-errors';
import type { Store } from '../stores/store';

const lockName = 'lock';
const maxLockBytes = 4096;

const schema = z.object({
  nonce: z.string(),
  instanceId: z.string(),
  hostName: z.string(),
  hostBootId: z.string(),
  processId: z.number(),
  processStartedAt: z.string(),
  leaseDurationMs: z.number(),
  renewedAt: z.string(),
});
type LockContent = z.infer<typeof schema>;

export interface LockOptions {
  readonly instanceId: string;
  readonly leaseDurationMs: number;
  /** How long one try watches a foreign lock before it gives up. */
  readonly waitMs: number;
  /** What was seen of the lock before. Given to each try again, so that tries shorter than a lease find out a holder that is gone, too. */
  readonly watch?: LockWatch;
}

/** A lock's content and when it was first seen, by this process's own clock. */
export interface LockWatch {
  text: string;
  since: number;
}

export class RepositoryLock {
  private timer: NodeJS.Timeout | undefined;
  private renewedAt = performance.now();
  private lost = false;
  private released = false;

  private constructor(
    private readonly store: Store,
    private readonly repositoryId: string,
    private content: LockContent,
    private readonly logger: Logger,
  ) {}

  /** Takes the lock and keeps it renewed. Throws REPOSITORY_LOCKED while somebody alive holds it. */
  static async acquire(store: Store, repositoryId: string, options: LockOptions, logger: Logger): Promise<RepositoryLock> {
    const content: LockContent = {
      nonce: randomUUID(),
      instanceId: options.instanceId,
      hostName: os.hostname(),
      hostBootId: hostBootId(),
      processId: process.pid,
      processStartedAt: processStartedAt(process.pid) ?? '',
      leaseDurationMs: options.leaseDurationMs,
      renewedAt: new Date().toISOString(),
    };
    const until = performance.now() + options.waitMs;
    const watch: LockWatch = options.watch ?? { text: '', since: 0 };
    for (;;) {
      if (await store.putNew(lockName, encode(content))) break;
      const text = await readText(store);
      if (text === undefined) continue;
      const holder = parse(text);
      if (text !== watch.text) {
        watch.text = text;
        watch.since = performance.now();
      }
      const unchangedMs = performance.now() - watch.since;
      if (!holder || isDead(holder) || unchangedMs >= holder.leaseDurationMs) {
        if (!(await store.swap(lockName, Buffer.from(text), encode(content)))) continue;
        logger.info('took the lock of a mover that is gone', { holder: holder?.hostName });
        break;
      }
      if (performance.now() >= until)
        throw RepositoryErrors.REPOSITORY_LOCKED({ holder: holder.hostName }, { retryDelayMs: holder.leaseDurationMs });
      await sleep(Math.min(500, Math.max(10, until - performance.now())));
    }
    const lock = new RepositoryLock(store, repositoryId, content, logger);
    lock.schedule();
    return lock;
  }

  /** Throws REPOSITORY_LOCK_LOST when the lease ran out or somebody else holds the lock. Reads it anew; call it before each manifest. */
  async assertHeld(): Promise<void> {
    if (!this.lost && !this.released && performance.now() - this.renewedAt < this.content.leaseDurationMs) {
      const text = await readText(this.store);
      if (text !== undefined && parse(text)?.nonce === this.content.nonce) return;
      this.lost = true;
    }
    throw RepositoryErrors.REPOSITORY_LOCK_LOST({ repositoryId: this.repositoryId });
  }

  /** True once the lease ran out or somebody else was seen to hold the lock; it does not come back. */
  get isLost(): boolean {
    return this.lost || (!this.released && performance.now() - this.renewedAt >= this.content.leaseDurationMs);
  }

  /** Gives the lock up. */
  async release(): Promise<void> {
    this.released = true;
    clearTimeout(this.timer);
    const text = await readText(this.store).catch(() => undefined);
    if (text !== undefined && parse(text)?.nonce === this.content.nonce) await this.store.swap(lockName, Buffer.from(text), undefined);
  }

  private schedule(): void {
    this.timer = setTimeout(() => void this.renew(), this.content.leaseDurationMs / 3);
    this.timer.unref();
  }

  private async renew(): Promise<void> {
    if (this.released || this.lost) return;
    try {
      // The lease counts from before the write: a write that hangs must not make it longer.
      const startedAt = performance.now();
      await this.assertHeld();
      this.content = { ...this.content, renewedAt: new Date().toISOString() };
      await this.store.put(lockName, encode(this.content));
      this.renewedAt = startedAt;
    } catch (error) {
      this.logger.warn('renewing the repository lock failed', { repositoryId: this.repositoryId, error });
    }
    if (!this.released && !this.lost) this.schedule();
  }
}

function encode(content: LockContent): Buffer {
  return Buffer.from(JSON.stringify(content));
}

function parse(text: string): LockContent | undefined {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return undefined; // torn or foreign: nobody can hold it
  }
}

async function readText(store: Store): Promise<string | undefined> {
  try {
    return (await store.readWhole(lockName, maxLockBytes)).toString('utf8');
  } catch (error) {
    if (hasCode(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
}

/** True only when this machine can prove it. */
function isDead(holder: LockContent): boolean {
  if (holder.hostBootId !== hostBootId() || holder.hostBootId === '') return false;
  return processStartedAt(holder.processId) !== holder.processStartedAt;
}

/** This machine since its boot, as far as process ids are comparable: containers of one machine have their own. */
function hostBootId(): string {
  try {
    return `${fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${fs.readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return '';
  }
}

/** Start time of a process in clock ticks since boot (field 22 of /proc/<pid>/stat); undefined when there is none, or a zombie. */
function processStartedAt(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
