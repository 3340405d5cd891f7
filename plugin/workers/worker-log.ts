import type { Logger } from '../../common/log/logger';
import { timestampFromWire } from '../../common/rpc/bytes';
import type { LogLine__Output } from '../../proto/gen/tidemark/worker/v1/LogLine';
import type { LogLines__Output } from '../../proto/gen/tidemark/worker/v1/LogLines';

/** What one worker may write into our log, so that one that raves does not fill it. */
export interface WorkerLogLimits {
  readonly linesPerMinute: number;
  readonly textLength: number;
  readonly fieldsLength: number;
}

const defaultLimits: WorkerLogLimits = { linesPerMinute: 300, textLength: 2000, fieldsLength: 8000 };
const levels = ['error', 'warn', 'info'] as const;

/** Warnings and errors of a worker VM, which has no log of its own, in the log of the plug-in. */
export class WorkerLog {
  #minute = 0;
  #written = 0;
  #dropped = 0;

  constructor(
    private readonly workerId: string,
    private readonly logger: Logger,
    private readonly now: () => number,
    private readonly limits: WorkerLogLimits = defaultLimits,
  ) {}

  write({ lines, dropped }: LogLines__Output): void {
    this.turnMinute();
    this.#dropped += Math.max(0, Number(dropped) || 0);
    for (const line of lines) {
      if (this.#written >= this.limits.linesPerMinute) this.#dropped += 1;
      else this.#line(line);
    }
  }

  /** Tells what was dropped once a minute is over; called with each sign of life. */
  turnMinute(): void {
    const minute = Math.floor(this.now() / 60_000);
    if (minute === this.#minute) return;
    if (this.#dropped > 0) this.logger.warn('lines of a worker were dropped', { workerId: this.workerId, lines: this.#dropped });
    this.#minute = minute;
    this.#written = 0;
    this.#dropped = 0;
  }

  #line(line: LogLine__Output): void {
    this.#written += 1;
    const level = levels.find((known) => known === line.level) ?? 'warn';
    this.logger[level]('a worker wrote', {
      workerId: this.workerId,
      writtenAt: timestampFromWire(line.occurredAt)?.toISOString() ?? '',
      written: line.message.slice(0, this.limits.textLength),
      writtenFields: this.#fields(line.fieldsJson),
    });
  }

  #fields(json: string): unknown {
    if (json === '') return {};
    if (json.length > this.limits.fieldsLength) return { tooLong: json.length };
    try {
      return JSON.parse(json) as unknown;
    } catch {
      // What cannot be read is not worth a failure of the worker's stream; its length says that there was something.
      return { unreadable: json.length };
    }
  }
}
