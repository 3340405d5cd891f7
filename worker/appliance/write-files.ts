/**
 * cloud-init's module write_files, for one path and into memory. Pure. Sources: its schema
 * (https://docs.cloud-init.io/en/22.4.2/topics/modules.html#write-files), and the program itself in `user-data.integ.test.ts`.
 */
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { ApplianceErrors } from '../errors/appliance-errors';

const largestFileBytes = 1024 * 1024;

/**
 * What `write_files` leaves at `wanted`; undefined when it writes nothing there. Throws SEED_INVALID for an entry that cannot be written, be it of
 * another path: cloud-init gives up at it, and what it had written until then is half of what was meant.
 */
export function writtenFile(writeFiles: unknown, wanted: string): Buffer | undefined {
  if (writeFiles === undefined || writeFiles === null) return undefined;
  if (!Array.isArray(writeFiles) || !writeFiles.every(isRecord)) throw refusal('is not a list of files');
  let content: Buffer | undefined;
  // Deferred ones are written by a later stage of the start.
  for (const deferred of [false, true]) {
    for (const file of writeFiles.filter((one) => isTrue(one['defer']) === deferred)) {
      const written = contentOf(file);
      if (written?.path === wanted) content = content && isTrue(file['append']) ? Buffer.concat([content, written.bytes]) : written.bytes;
      if ((content?.length ?? 0) > largestFileBytes) throw refusal('has a file that is too large');
    }
  }
  return content;
}

/** Undefined without a path: such an entry is passed over. */
function contentOf(file: Readonly<Record<string, unknown>>): { path: string; bytes: Buffer } | undefined {
  const { path: name, content = '', encoding } = file;
  if (name === undefined || name === null || name === '') return undefined;
  if (typeof name !== 'string') throw refusal('has a path that is no text');
  if (typeof content !== 'string' && !(content instanceof Uint8Array)) throw refusal('has a content that is no text');
  if (typeof encoding !== 'string' && encoding !== undefined && encoding !== null) throw refusal('has an encoding that is no text');
  const steps = decoders[(encoding ?? '').toLowerCase().trim()] ?? [];
  const bytes: Buffer = typeof content === 'string' ? Buffer.from(content, 'utf8') : Buffer.from(content);
  return { path: path.posix.resolve('/', name), bytes: steps.reduce((result, step) => step(result), bytes) };
}

/** By encoding; every other one is taken for text, as cloud-init does. */
const decoders: Readonly<Record<string, readonly ((bytes: Buffer) => Buffer)[]>> = {
  gz: [gunzip],
  gzip: [gunzip],
  b64: [fromBase64],
  base64: [fromBase64],
  'gz+b64': [fromBase64, gunzip],
  'gz+base64': [fromBase64, gunzip],
  'gzip+b64': [fromBase64, gunzip],
  'gzip+base64': [fromBase64, gunzip],
};

/** Line breaks may stand in it. Node.js alone would read what it can of anything. */
function fromBase64(bytes: Buffer): Buffer {
  const text = bytes.toString('latin1').replace(/\s+/g, '');
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) throw refusal('has a content that is not base64');
  return Buffer.from(text, 'base64');
}

function gunzip(bytes: Buffer): Buffer {
  if (bytes.length === 0) return bytes;
  try {
    return gunzipSync(bytes, { maxOutputLength: largestFileBytes });
  } catch {
    throw refusal('has a content that is not gzip, or too large');
  }
}

/** cloud-init's words for yes, beside YAML's own. */
function isTrue(value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  return (
    (typeof value === 'string' || typeof value === 'number') && ['true', '1', 'on', 'yes'].includes(String(value).toLowerCase().trim())
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}

function refusal(problem: string): Error {
  return ApplianceErrors.SEED_INVALID({ problems: `write_files ${problem}` });
}
