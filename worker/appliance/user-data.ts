/**
 * From the config drive's user data to the seed. Pure. The user data is cloud-config: the engine's own keys, then ours appended as text. It is read
 * as cloud-init reads it (`user-data.integ.test.ts` compares the two); what cloud-init would run, fetch or take from elsewhere is refused.
 */
import { parse } from 'yaml';
import { applianceSeedSchema, seedPath } from '../../common/appliance/seed';
import type { ApplianceSeed } from '../../common/appliance/seed';
import { ApplianceErrors } from '../errors/appliance-errors';
import { cloudConfigText } from './user-data-format';
import { writtenFile } from './write-files';

/** Throws SEED_MISSING, SEED_INVALID; neither quotes what was read. */
export function seedFromUserData(userData: Uint8Array): ApplianceSeed {
  const content = seedFile(userData).toString('utf8');
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

/** The seed's file as write_files would leave it. Throws SEED_MISSING, SEED_INVALID. */
export function seedFile(userData: Uint8Array): Buffer {
  const content = writtenFile(cloudConfig(cloudConfigText(userData))['write_files'], seedPath);
  if (content === undefined) throw ApplianceErrors.SEED_MISSING({ reason: `no ${seedPath} among the write_files of the user data` });
  return content;
}

/** YAML 1.1, as cloud-init has it: `yes` is true there. A key that stands twice counts by its later place. */
function cloudConfig(text: string): Record<string, unknown> {
  let document: unknown;
  try {
    document = parse(text, { version: '1.1', uniqueKeys: false, logLevel: 'error', prettyErrors: false });
  } catch {
    throw ApplianceErrors.SEED_INVALID({ problems: 'the user data is not YAML' });
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw ApplianceErrors.SEED_MISSING({ reason: 'the user data is not cloud-config' });
  return document as Record<string, unknown>;
}
