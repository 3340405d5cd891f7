/**
 * Making and changing a file so that of several movers who try at the same time one wins, also on shares that know no hard links, no locks and no
 * rename without replacing. All that is needed is that a file can be created exclusively, which local file systems, NFS from version 3 on and SMB
 * decide at the server.
 *
 * Who wants to change `name` creates `tmp/<hash of name>.lock`, looks, changes by rename, and removes the lock: the file is there, whole, at any
 * moment. The lock is linked into place with its content, so that one who is killed leaves no empty lock, of which nobody could tell whose it is; only
 * where there are no hard links it is created first and written then. A lock whose holder died is broken when its content did not change for 30 s by
 * the watcher's own clock (a holder lets go after 10 s at most), or at once when it was left by an earlier process of the same writer.
 */
import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { RepositoryErrors } from '../errors/mover-errors';
import { TEMPORARY_FOLDER, type DurableFiles } from './durable-files';
import { fileErrorCode, onceMoreIfStale } from './file-errors';

const holdMs = 10_000;
const lockAttempts = 10;

/** Somebody took the lock for dead: it was held too long, or two broke an older one at the same time. */
class LockLost extends Error {}

/** What file systems without hard links answer. */
const noLinkCodes: readonly string[] = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

export class ExclusiveFiles {
  /** Tells the locks of this process from those that an earlier one of the same writer left. */
  private readonly processId = randomUUID();
  private hasLinks = true;

  constructor(
    private readonly files: DurableFiles,
    private readonly deadLockMs = 30_000,
  ) {}

  /** Makes a file unless the name is taken; false then. Whole and durable when it resolves. */
  async create(name: string, content: Uint8Array): Promise<boolean> {
    const temporary = await this.files.writeTemporary(name, content);
    try {
      return await this.alone(name, (assertAlone) => this.link(temporary, name, assertAlone));
    } finally {
      await this.files.discard(temporary);
    }
  }

  /** Replaces a file, or removes it (undefined), if it still holds `expected`; false when it does not. */
  async swap(name: string, expected: Buffer, content: Uint8Array | undefined): Promise<boolean> {
    return this.alone(name, async (assertAlone) => {
      if (!(await this.current(name))?.equals(expected)) return false;
      if (content === undefined) {
        await assertAlone();
        await this.files.remove(name);
        return true;
      }
      const temporary = await this.files.writeTemporary(name, content);
      try {
        await assertAlone();
      } catch (error) {
        await this.files.discard(temporary);
        throw error;
      }
      await this.files.publish(temporary, name);
      return true;
    });
  }

  private async current(name: string): Promise<Buffer | undefined> {
    try {
      return await this.files.readSmall(name);
    } catch (error) {
      if (fileErrorCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  private async link(temporary: string, name: string, assertAlone: () => Promise<void>): Promise<boolean> {
    const target = this.files.pathOf(name);
    await this.files.ensureFolder(folderOf(name));
    this.files.step('rename', name);
    if (this.hasLinks) {
      try {
        await fs.link(temporary, target);
        await this.files.syncFolder(folderOf(name));
        return true;
      } catch (error) {
        const code = fileErrorCode(error);
        if (code === 'EEXIST') return this.isLinked(temporary, name);
        if (!noLinkCodes.includes(code)) throw error;
        this.hasLinks = false;
      }
    }
    if (await this.current(name)) return false;
    await assertAlone();
    await this.files.publish(temporary, name);
    return true;
  }

  /** An NFS server whose answer got lost is asked again by the kernel and says that the name is taken: by us. */
  private async isLinked(temporary: string, name: string): Promise<boolean> {
    const [own, taken] = await Promise.all([fs.stat(temporary), fs.stat(this.files.pathOf(name)).catch(() => undefined)]);
    if (taken?.ino !== own.ino || taken.dev !== own.dev || own.nlink < 2) return false;
    await this.files.syncFolder(folderOf(name));
    return true;
  }

  /**
   * Does the work while nobody else does it for this name. The work asks `assertAlone` right before the step that others see; when somebody broke the
   * lock in between, it begins again.
   */
  private async alone<T>(name: string, work: (assertAlone: () => Promise<void>) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.locked(name, work);
      } catch (error) {
        if (!(error instanceof LockLost)) throw error;
        if (attempt === lockAttempts) throw RepositoryErrors.REPOSITORY_IO({ what: name, reason: 'others change it all the time' });
      }
    }
  }

  private async locked<T>(name: string, work: (assertAlone: () => Promise<void>) => Promise<T>): Promise<T> {
    const lock = this.files.pathOf(`${TEMPORARY_FOLDER}/${createHash('sha256').update(name).digest('hex').slice(0, 32)}.lock`);
    const content = JSON.stringify({ writer: this.files.writer, process: this.processId, id: randomUUID() });
    await this.acquire(lock, content);
    const since = performance.now();
    const assertAlone = async () => {
      if (performance.now() - since >= holdMs || (await readLock(lock)) !== content) throw new LockLost();
    };
    try {
      return await work(assertAlone);
    } finally {
      if ((await readLock(lock).catch(() => undefined)) === content) await this.files.discard(lock);
    }
  }

  private async acquire(lock: string, content: string): Promise<void> {
    await this.files.ensureFolder(TEMPORARY_FOLDER);
    const prepared = await this.files.temporaryPath();
    try {
      // Not flushed: after a power cut it may be empty, and somebody waits once; a sync for each lock would be paid by everybody, always.
      await fs.writeFile(prepared, content, { flag: 'wx', mode: 0o600 });
      let watched: { text: string; since: number } | undefined;
      // Whoever waits breaks a dead lock at a time of its own, so that two seldom do it together.
      const patienceMs = this.deadLockMs * (1 + Math.random() / 4);
      while (!(await this.take(lock, prepared, content))) {
        const text = await onceMoreIfStale(() => readLock(lock));
        if (text !== undefined && text !== watched?.text) watched = { text, since: performance.now() };
        if (text !== undefined && watched && (this.isLeftover(text) || performance.now() - watched.since > patienceMs))
          await this.break(lock, text);
        // Also when it is gone: a client of a share may go on being told that it is there.
        else await sleep(5 + Math.random() * 40);
      }
    } finally {
      await this.files.discard(prepared);
    }
  }

  /** Makes the lock, with its content at once; false when there is one. */
  private async take(lock: string, prepared: string, content: string): Promise<boolean> {
    if (!this.hasLinks) return createLock(lock, content);
    try {
      await fs.link(prepared, lock);
      return true;
    } catch (error) {
      const code = fileErrorCode(error);
      // An NFS server whose answer got lost was asked twice: then the lock that is there is ours.
      if (code === 'EEXIST') return (await readLock(lock)) === content;
      if (!noLinkCodes.includes(code)) throw error;
      this.hasLinks = false;
      return createLock(lock, content);
    }
  }

  /** Left by an earlier process with the same writer id: there is only one at a time. */
  private isLeftover(text: string): boolean {
    try {
      const { writer, process: holder } = JSON.parse(text) as { writer?: unknown; process?: unknown };
      return writer === this.files.writer && holder !== this.processId;
    } catch {
      return false;
    }
  }

  /** By rename, which one of several does; a live holder that loses its lock this way finds out before it changes anything. */
  private async break(lock: string, text: string): Promise<void> {
    if ((await readLock(lock)) !== text) return;
    const away = await this.files.temporaryPath();
    await fs.rename(lock, away).catch((error: unknown) => {
      if (fileErrorCode(error) !== 'ENOENT') throw error;
    });
    await this.files.discard(away);
  }
}

function folderOf(name: string): string {
  const end = name.lastIndexOf('/');
  return end === -1 ? '.' : name.slice(0, end);
}

/** Where there are no hard links. Killed in its middle it leaves an empty lock, which others break when its time is over. */
async function createLock(lock: string, content: string): Promise<boolean> {
  try {
    await fs.writeFile(lock, content, { flag: 'wx', mode: 0o600 });
    return true;
  } catch (error) {
    if (fileErrorCode(error) === 'EEXIST') return false;
    // It was made, but not written whole: that must not keep others waiting.
    if ((error as NodeJS.ErrnoException).syscall !== 'open') await fs.rm(lock, { force: true }).catch(() => undefined);
    throw error;
  }
}

async function readLock(lock: string): Promise<string | undefined> {
  try {
    return await fs.readFile(lock, 'utf8');
  } catch (error) {
    if (fileErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
