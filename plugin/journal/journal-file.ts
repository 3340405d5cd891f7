import { constants } from 'node:fs';
import fs from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { durableWrite } from '../../common/tls/durable-write';
import { JournalErrors } from './journal-errors';

/** Where the journal's lines lie. */
export interface JournalFile {
  /** Everything written so far; empty when there is no file. */
  read(): Promise<string>;
  /** Resolves once the text is on the medium. After a failure the file is as before. Throws JOURNAL_WRITE_FAILED. */
  append(text: string): Promise<void>;
  /** Replaces everything, atomically. Throws JOURNAL_WRITE_FAILED. */
  replace(text: string): Promise<void>;
  /** Keeps a copy of what could not be read, for whoever has to look into it. */
  setAside(text: string): Promise<void>;
  close(): Promise<void>;
}

/** One file; appends are followed by fdatasync, replacements by rename. */
export class DiskJournalFile implements JournalFile {
  #handle: FileHandle | undefined;
  #length = 0;

  constructor(private readonly file: string) {}

  async read(): Promise<string> {
    try {
      const text = await fs.readFile(this.file, 'utf8');
      this.#length = Buffer.byteLength(text);
      return text;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
      throw failed(error);
    }
  }

  async append(text: string): Promise<void> {
    const bytes = Buffer.from(text);
    try {
      const handle = await this.#open();
      await writeAll(handle, bytes, this.#length);
      await handle.datasync();
      this.#length += bytes.length;
    } catch (error) {
      // A torn line in the middle would hide what follows it, so the file is cut back to what was whole.
      await this.#handle?.truncate(this.#length).catch(() => undefined);
      throw failed(error);
    }
  }

  async replace(text: string): Promise<void> {
    try {
      await this.close();
      durableWrite(this.file, text, 0o600);
      this.#length = Buffer.byteLength(text);
    } catch (error) {
      throw failed(error);
    }
  }

  async setAside(text: string): Promise<void> {
    await fs.writeFile(`${this.file}.damaged-${Date.now()}`, text, { mode: 0o600 });
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  async #open(): Promise<FileHandle> {
    if (this.#handle) return this.#handle;
    await fs.mkdir(path.dirname(this.file), { recursive: true, mode: 0o700 });
    this.#handle = await fs.open(this.file, constants.O_RDWR | constants.O_CREAT, 0o600);
    await this.#handle.truncate(this.#length);
    return this.#handle;
  }
}

async function writeAll(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

function failed(cause: unknown) {
  const code = (cause as NodeJS.ErrnoException).code;
  return JournalErrors.JOURNAL_WRITE_FAILED({ problem: code ?? 'unknown' }, { cause });
}
