import { randomUUID } from 'node:crypto';
import { spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import { CommonErrors } from '../../common/errors/common-errors';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { LocalErrors } from '../errors/worker-errors';

/**
 * A file that appears under its name only when it is whole: written as a sparse raw file beside it, turned into qcow2 if so wanted, and then
 * given its name, which must be free.
 */
export class LocalFile {
  private readonly raw: string;
  private readonly converted: string;

  private constructor(
    private readonly finalPath: string,
    private readonly format: 'raw' | 'qcow2',
  ) {
    const stem = path.join(path.dirname(finalPath), `.${path.basename(finalPath)}.${randomUUID().slice(0, 8)}`);
    this.raw = `${stem}.part`;
    this.converted = `${stem}.qcow2-part`;
  }

  /** Throws TARGET_EXISTS, TARGET_INVALID. */
  static async assertFree(finalPath: string): Promise<void> {
    if (!path.isAbsolute(finalPath)) throw LocalErrors.TARGET_INVALID({ path: finalPath, problem: 'the path is not absolute' });
    if (await exists(finalPath)) throw LocalErrors.TARGET_EXISTS({ path: finalPath });
  }

  /** Makes the empty file. Throws TARGET_EXISTS, TARGET_INVALID, TARGET_UNWRITABLE. */
  static async create(finalPath: string, format: 'raw' | 'qcow2', sizeBytes: number): Promise<LocalFile> {
    await LocalFile.assertFree(finalPath);
    const file = new LocalFile(finalPath, format);
    try {
      const handle = await fs.open(file.raw, 'wx', 0o600);
      try {
        await handle.truncate(sizeBytes);
      } finally {
        await handle.close();
      }
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') {
        throw LocalErrors.TARGET_INVALID({ path: finalPath, problem: 'its folder does not exist' }, { cause });
      }
      await file.discard();
      throw LocalErrors.TARGET_UNWRITABLE({ reason: code ?? String(cause) }, { cause });
    }
    return file;
  }

  /** The file that lanes write. */
  get writePath(): string {
    return this.raw;
  }

  /** Converts if needed and gives the file its name. Throws TARGET_EXISTS, IMAGE_CONVERSION_FAILED, TARGET_UNWRITABLE, CANCELLED. */
  async publish(signal: AbortSignal): Promise<void> {
    let whole = this.raw;
    if (this.format === 'qcow2') {
      await convert(this.raw, this.converted, signal);
      await fs.chmod(this.converted, 0o600);
      whole = this.converted;
    }
    try {
      await fs.link(whole, this.finalPath);
    } catch (cause) {
      await this.renameInstead(whole, cause as NodeJS.ErrnoException);
    }
    await this.discard();
  }

  /** Removes what is left of the parts; safe at any time. */
  async discard(): Promise<void> {
    await Promise.all([fs.rm(this.raw, { force: true }), fs.rm(this.converted, { force: true })]);
  }

  /** `link` refuses an existing name; where a file system has no links, look first and rename. */
  private async renameInstead(whole: string, cause: NodeJS.ErrnoException): Promise<void> {
    if (cause.code === 'EEXIST' || (await exists(this.finalPath))) throw LocalErrors.TARGET_EXISTS({ path: this.finalPath }, { cause });
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(cause.code ?? '')) {
      throw LocalErrors.TARGET_UNWRITABLE({ reason: cause.code ?? cause.message }, { cause });
    }
    await fs.rename(whole, this.finalPath);
  }
}

async function exists(file: string): Promise<boolean> {
  try {
    await fs.lstat(file);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return false;
    throw LocalErrors.TARGET_INVALID({ path: file, problem: code ?? 'it cannot be looked at' }, { cause: error });
  }
}

async function convert(from: string, to: string, signal: AbortSignal): Promise<void> {
  if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'the restore' });
  try {
    await new Promise<void>((resolve, reject) => {
      const child = spawn('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-W', from, to], { stdio: ['ignore', 'ignore', 'pipe'] });
      let said = '';
      const abort = () => child.kill('SIGKILL');
      signal.addEventListener('abort', abort, { once: true });
      child.stderr.on('data', (text: Buffer) => (said = (said + text.toString('utf8')).slice(-400)));
      child.once('error', (cause) => reject(LocalErrors.IMAGE_CONVERSION_FAILED({ reason: cause.message }, { cause })));
      child.once('close', (code) => {
        signal.removeEventListener('abort', abort);
        if (signal.aborted) reject(CommonErrors.CANCELLED({ what: 'the restore' }));
        else if (code === 0) resolve();
        else reject(LocalErrors.IMAGE_CONVERSION_FAILED({ reason: said.trim() || `exit code ${code}` }));
      });
    });
  } catch (error) {
    if (isTidemarkError(error)) throw error;
    throw LocalErrors.IMAGE_CONVERSION_FAILED({ reason: String(error) }, { cause: error });
  }
}
