/**
 * From the config drive's user data to the seed. Pure. The user data is cloud-config: the engine's own keys, then ours appended as text, so that
 * a key may stand there twice; the later one counts, as in cloud-init.
 */
import { gunzipSync } from 'node:zlib';
import { parse } from 'yaml';
import { applianceSeedSchema, seedPath } from '../../common/appliance/seed';
import type { ApplianceSeed } from '../../common/appliance/seed';
import { ApplianceErrors } from '../errors/appliance-errors';

const largestSeedBytes = 1024 * 1024;

/** Throws SEED_MISSING, SEED_INVALID; neither quotes what was read. */
export function seedFromUserData(userData: string): ApplianceSeed {
  const content = seedFile(userData);
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    // The parser's message would quote the text, which holds the token.
    throw ApplianceErrors.SEED_INVALID({ problems: `${seedPath} is not JSON` });
  }
  const result = applianceSeedSchema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join('.') || seedPath}: ${issue.message}`).join('; ');
  throw ApplianceErrors.SEED_INVALID({ problems });
}

function seedFile(userData: string): string {
  const document = cloudConfig(userData);
  const files = document['write_files'];
  const entries = Array.isArray(files) ? files.filter(isRecord) : [];
  // Written in order, so the last one of a path stays.
  const entry = entries.findLast(({ path }) => path === seedPath);
  if (!entry) throw ApplianceErrors.SEED_MISSING({ reason: `no ${seedPath} among the write_files of the user data` });
  return decode(entry['content'], entry['encoding']);
}

function cloudConfig(userData: string): Record<string, unknown> {
  let document: unknown;
  try {
    document = parse(userData, { uniqueKeys: false, customTags: ['binary'], logLevel: 'error', prettyErrors: false });
  } catch {
    throw ApplianceErrors.SEED_INVALID({ problems: 'the user data is not YAML' });
  }
  if (!isRecord(document)) throw ApplianceErrors.SEED_MISSING({ reason: 'the user data is not cloud-config' });
  return document;
}

/** Encodings of cloud-init's write_files. */
function decode(content: unknown, encoding: unknown): string {
  const name = typeof encoding === 'string' ? encoding.toLowerCase() : '';
  const parts = name === '' || name === 'text/plain' ? [] : name.split('+');
  if (parts.some((part) => !['gz', 'gzip', 'b64', 'base64'].includes(part))) {
    throw ApplianceErrors.SEED_INVALID({ problems: `${seedPath} has the unknown encoding ${JSON.stringify(encoding)}` });
  }
  let bytes: Buffer;
  if (content instanceof Uint8Array) bytes = Buffer.from(content);
  else if (typeof content !== 'string') throw ApplianceErrors.SEED_INVALID({ problems: `${seedPath} has no content` });
  else bytes = Buffer.from(content, parts.some((part) => part.startsWith('b')) ? 'base64' : 'utf8');
  if (!parts.some((part) => part.startsWith('g'))) return bytes.toString('utf8');
  try {
    return gunzipSync(bytes, { maxOutputLength: largestSeedBytes }).toString('utf8');
  } catch {
    throw ApplianceErrors.SEED_INVALID({ problems: `${seedPath} is not gzip, or too large` });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
