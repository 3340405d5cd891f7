import fs from 'node:fs/promises';
import path from 'node:path';
import { RepositoryErrors } from '../errors/mover-errors';

/**
 * Watches that a folder stays the one it was. When a disk or share below it is unmounted, the empty folder of its mount point shows: writing there
 * would fill the local disk with what nobody finds again.
 */
export class SamePlace {
  private seen: { dev: number; ino: number } | undefined;

  constructor(
    private readonly folder: string,
    /** A file that only the right place has; without one only the very same file system is right. */
    private readonly landmark: string | undefined,
  ) {}

  /** Throws REPOSITORY_IO when another folder is there than the first time. One with the landmark is the right one, mounted again. */
  async check(): Promise<void> {
    const { dev, ino } = await fs.stat(this.folder);
    if (this.seen === undefined || (this.seen.dev === dev && this.seen.ino === ino) || (await this.hasLandmark())) {
      this.seen = { dev, ino };
      return;
    }
    throw RepositoryErrors.REPOSITORY_IO({ what: this.folder, reason: 'another file system is there now; it was probably unmounted' });
  }

  private async hasLandmark(): Promise<boolean> {
    if (this.landmark === undefined) return false;
    return fs.stat(path.join(this.folder, this.landmark)).then(
      () => true,
      () => false,
    );
  }
}
