import { loggerTo } from '../../common/log/logger';
import type { LogFields, LogLevel, Logger } from '../../common/log/logger';

/** A logger that keeps its lines, so that a test can look for what was (not) written. */
export function quietLogger(): { logger: Logger; lines: { level: LogLevel; text: string; fields: LogFields }[] } {
  const lines: { level: LogLevel; text: string; fields: LogFields }[] = [];
  return { logger: loggerTo((level, text, fields) => lines.push({ level, text, fields })), lines };
}
