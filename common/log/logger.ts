import winston from 'winston';
import { currentCorrelation } from './correlation';
import { redactValue } from './redact';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';
export type LogFields = Readonly<Record<string, unknown>>;

/** Where processes write what happened: constant text plus fields. Fields are redacted; correlation ids are added. */
export interface Logger {
  error(text: string, fields?: LogFields): void;
  warn(text: string, fields?: LogFields): void;
  info(text: string, fields?: LogFields): void;
  debug(text: string, fields?: LogFields): void;
  /** The same logger with fields on every line. */
  child(fields: LogFields): Logger;
}

/** One JSON object per line on stderr (stdout belongs to command output), or in `file`. */
export function createLogger(options: { process: string; level: LogLevel; file?: string }): Logger {
  const backend = winston.createLogger({
    level: options.level,
    format: winston.format.printf((info) => JSON.stringify(info['line'])),
    transports: [
      options.file
        ? new winston.transports.File({ filename: options.file, maxsize: 64 * 1024 * 1024, maxFiles: 5 })
        : new winston.transports.Stream({ stream: process.stderr }),
    ],
  });
  return bind((level, text, fields) => {
    const line = {
      at: new Date().toISOString(),
      level,
      process: options.process,
      text,
      ...currentCorrelation(),
      ...(redactValue(fields) as object),
    };
    backend.log({ level, message: '', line });
  }, {});
}

/** A logger that hands redacted lines to a function; for tests and for programs that print their own way. */
export function loggerTo(write: (level: LogLevel, text: string, fields: LogFields) => void): Logger {
  return bind((level, text, fields) => write(level, text, redactValue(fields) as LogFields), {});
}

function bind(write: (level: LogLevel, text: string, fields: LogFields) => void, bound: LogFields): Logger {
  const at = (level: LogLevel) => (text: string, fields?: LogFields) => write(level, text, { ...bound, ...fields });
  return {
    error: at('error'),
    warn: at('warn'),
    info: at('info'),
    debug: at('debug'),
    child: (fields) => bind(write, { ...bound, ...fields }),
  };
}
