import type { Logger } from '../log/logger';

/** Refusals with one code are told once in this time; the line says how many there were. */
const quietMs = 1_000;

/** Logs refusals of connections, without letting whoever is refused fill the log. */
export class RefusalLog {
  private readonly last = new Map<string, { at: number; untold: number }>();

  constructor(
    private readonly logger: Logger,
    /** The line, such as `data connection refused`. */
    private readonly text: string,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** `code` is one of ours: there are few. */
  note(code: string, fields: Record<string, unknown>): void {
    const now = this.now();
    const before = this.last.get(code) ?? { at: -Infinity, untold: 0 };
    if (now - before.at < quietMs) {
      before.untold++;
      return;
    }
    this.last.set(code, { at: now, untold: 0 });
    this.logger.info(this.text, { code, ...fields, ...(before.untold > 0 && { others: before.untold }) });
  }
}
