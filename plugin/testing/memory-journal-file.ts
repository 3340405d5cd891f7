import type { JournalFile } from '../journal/journal-file';

/** A journal file in memory that survives the journal that writes it, and can fail on demand. */
export class MemoryJournalFile implements JournalFile {
  text = '';
  appends = 0;
  setAsideTexts: string[] = [];
  /** Called before an append takes effect; throwing fails it. */
  beforeAppend: (count: number) => void = () => undefined;
  /** Called after an append is durable. */
  afterAppend: (count: number) => void = () => undefined;

  read(): Promise<string> {
    return Promise.resolve(this.text);
  }

  async append(text: string): Promise<void> {
    this.appends += 1;
    const count = this.appends;
    this.beforeAppend(count);
    this.text += text;
    this.afterAppend(count);
  }

  replace(text: string): Promise<void> {
    this.text = text;
    return Promise.resolve();
  }

  setAside(text: string): Promise<void> {
    this.setAsideTexts.push(text);
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
