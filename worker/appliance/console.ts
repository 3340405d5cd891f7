/**
 * What a worker VM says: on its console, which the engine shows as the serial console. One line per message, so that a person can read it in a
 * hurry; nothing is kept on a disk.
 */
import { loggerTo } from '../../common/log/logger';
import type { Logger, LogLevel } from '../../common/log/logger';

const words: Readonly<Record<LogLevel, string>> = { error: 'ERROR: ', warn: 'warning: ', info: '', debug: '' };
const ranks: readonly LogLevel[] = ['error', 'warn', 'info', 'debug'];

/** Secrets are taken out by the logger. `write` gets whole lines. */
export function consoleLogger(least: LogLevel, write: (line: string) => void = (line) => process.stderr.write(line)): Logger {
  return loggerTo((level, text, fields) => {
    if (ranks.indexOf(level) > ranks.indexOf(least)) return;
    const rest = Object.entries(fields).map(([name, value]) => ` ${name}=${brief(value)}`);
    write(`[${process.uptime().toFixed(1).padStart(6)}] tidemark-worker: ${words[level]}${text}${rest.join('')}\n`);
  });
}

/** Errors by code and message; their stacks are no use on a console. */
function brief(value: unknown): string {
  if (typeof value === 'string') return /^[^\s"]+$/.test(value) ? value : JSON.stringify(value);
  if (typeof value === 'object' && value !== null && 'message' in value) {
    const { code, message } = value as { code?: unknown; message: unknown };
    return JSON.stringify(typeof code === 'string' ? `${code}: ${String(message)}` : String(message));
  }
  return JSON.stringify(value) ?? '';
}
