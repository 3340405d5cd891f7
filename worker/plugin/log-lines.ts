import type { LogFields, LogLevel, Logger } from '../../common/log/logger';
import { loggerTo } from '../../common/log/logger';
import { redactText } from '../../common/log/redact';
import { currentCorrelation } from '../../common/log/correlation';
import { timestampToWire } from '../../common/rpc/bytes';
import type { LogLine } from '../../proto/gen/tidemark/worker/v1/LogLine';
import type { LogLines } from '../../proto/gen/tidemark/worker/v1/LogLines';

const maxLines = 500;
const maxLinesPerMessage = 100;
const maxTextLength = 2_000;
const maxFieldsLength = 4_000;

/**
 * Warnings and errors of a worker VM on their way to the plug-in, since the VM keeps no log. Bounded: when the plug-in is away for long the
 * oldest lines stay, they tell how it began, and what came later is counted.
 */
export class LogBuffer {
  private lines: LogLine[] = [];
  private dropped = 0;

  constructor(private readonly now: () => Date = () => new Date()) {}

  /** Fields are redacted already. */
  add(level: LogLevel, text: string, fields: LogFields): void {
    if (this.lines.length >= maxLines) {
      this.dropped += 1;
      return;
    }
    this.lines.push({
      occurredAt: timestampToWire(this.now()),
      level,
      message: redactText(text).slice(0, maxTextLength),
      fieldsJson: fieldsJson({ ...currentCorrelation(), ...fields }),
    });
  }

  /** The next lines to send, or undefined; they are forgotten here. */
  take(): LogLines | undefined {
    if (this.lines.length === 0 && this.dropped === 0) return undefined;
    const lines = this.lines.splice(0, maxLinesPerMessage);
    const { dropped } = this;
    this.dropped = 0;
    return { lines, dropped: String(dropped) };
  }

  /** What could not be sent after all, to be taken again first. */
  giveBack(message: LogLines): void {
    this.lines = [...(message.lines ?? []), ...this.lines];
    this.dropped += Number(message.dropped ?? 0);
  }
}

/** The fields as a whole document, with less in it when it would be too long: half a one would be none. */
function fieldsJson(fields: object): string {
  const whole = JSON.stringify(fields);
  if (whole.length <= maxFieldsLength) return whole;
  const withoutStacks = JSON.stringify(fields, (key, value: unknown) => (key === 'stack' ? undefined : value));
  return withoutStacks.length <= maxFieldsLength ? withoutStacks : JSON.stringify({ ...currentCorrelation(), fieldsTooLong: whole.length });
}

/** Writes to `logger`, and warnings and errors to the buffer too. */
export function loggerInto(buffer: LogBuffer, logger: Logger): Logger {
  const copy = loggerTo((level, text, fields) => {
    if (level === 'error' || level === 'warn') buffer.add(level, text, fields);
  });
  const both = (one: Logger, other: Logger): Logger => ({
    error: (text, fields) => (one.error(text, fields), other.error(text, fields)),
    warn: (text, fields) => (one.warn(text, fields), other.warn(text, fields)),
    info: (text, fields) => one.info(text, fields),
    debug: (text, fields) => one.debug(text, fields),
    child: (fields) => both(one.child(fields), other.child(fields)),
  });
  return both(logger, copy);
}
