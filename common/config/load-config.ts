import fs from 'node:fs';
import type { z } from 'zod';
import { CommonErrors } from '../errors/common-errors';

/**
 * Typed, frozen configuration: a JSON file, then the environment, then overrides (command line). `TIDEMARK_A__B_C=1` sets `a.bC`; a
 * name that ends in `_FILE` reads the value from that file (for secrets). Every problem is reported at once (CONFIGURATION_INVALID).
 */
export function loadConfig<T extends z.ZodType>(
  schema: T,
  sources: { file?: string | undefined; environment?: NodeJS.ProcessEnv; prefix?: string; overrides?: Record<string, unknown> },
): Readonly<z.infer<T>> {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  if (sources.file !== undefined) merge(values, readFile(sources.file, problems));
  merge(values, fromEnvironment(sources.environment ?? {}, sources.prefix ?? 'TIDEMARK_', problems));
  merge(values, sources.overrides ?? {});
  const result = schema.safeParse(values);
  if (!result.success) {
    for (const issue of result.error.issues) problems.push(`${issue.path.join('.') || 'configuration'}: ${issue.message}`);
  }
  if (problems.length > 0 || !result.success)
    throw CommonErrors.CONFIGURATION_INVALID({ problems: problems.map((p) => `- ${p}`).join('\n') });
  return deepFreeze(result.data);
}

function readFile(file: string, problems: string[]): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(fs.readFileSync(file, 'utf8'));
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return parsed as Record<string, unknown>;
    problems.push(`${file}: must be a JSON object`);
  } catch (error) {
    problems.push(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return {};
}

function fromEnvironment(environment: NodeJS.ProcessEnv, prefix: string, problems: string[]): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith(prefix) || value === undefined) continue;
    const fromFile = name.endsWith('_FILE');
    const words = name.slice(prefix.length, fromFile ? -'_FILE'.length : undefined).split('__');
    const keys = words.map((word) => word.toLowerCase().replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()));
    let text = value;
    if (fromFile) {
      try {
        text = fs.readFileSync(value, 'utf8').trimEnd();
      } catch (error) {
        problems.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
        continue;
      }
    }
    let at = values;
    for (const key of keys.slice(0, -1)) at = (at[key] ??= {}) as Record<string, unknown>;
    at[keys.at(-1) ?? ''] = scalar(text);
  }
  return values;
}

function scalar(text: string): unknown {
  if (/^(true|false|-?\d{1,15}|\[.*\]|\{.*\})$/s.test(text)) {
    try {
      return JSON.parse(text);
    } catch {
      // Looks like JSON but is not: the schema judges it as text.
    }
  }
  return text;
}

function merge(into: Record<string, unknown>, from: Record<string, unknown>): void {
  for (const [key, value] of Object.entries(from)) {
    if (value === undefined) continue;
    const old = into[key];
    if (isObject(old) && isObject(value)) merge(old, value);
    else into[key] = isObject(value) ? structuredClone(value) : value;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}
