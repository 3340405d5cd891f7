/** What may change after a repository was made, as docs/formats/repository.md has it. Pure. */
import { z } from 'zod';
import { RepositoryErrors } from '../errors/mover-errors';
import type { DocumentCipher } from './document-cipher';
import { openDocument, sealDocument } from './sealed-document';

const kind = { magic: 'TDMKSETT', version: 1, encryptedVersion: 2 };
export const SETTINGS_NAME = 'settings';

const bytes = z.int().min(0);

const schema = z.object({
  codec: z.enum(['none', 'zstd', 'lz4']),
  /** zstd's. */
  codecLevel: z.int().min(1).max(19),
  softFreeBytes: bytes,
  hardFreeBytes: bytes,
  capacityBytes: bytes,
  graceMs: z.int().min(0),
  changedAt: z.iso.datetime(),
});

/** Watermarks and capacity are 0 where nothing was chosen. */
export type SettingsDocument = z.infer<typeof schema>;

/** `cipher` is that of SETTINGS_NAME in an encrypted repository. */
export function encodeSettings(settings: SettingsDocument, cipher?: DocumentCipher): Buffer {
  return sealDocument(kind, [{ codec: 'none', content: Buffer.from(JSON.stringify(settings)) }], cipher);
}

/** Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN. */
export function decodeSettings(content: Buffer, cipher?: DocumentCipher): SettingsDocument {
  const [json] = openDocument(kind, content, SETTINGS_NAME, undefined, cipher);
  try {
    return schema.parse(JSON.parse((json as Buffer).toString('utf8')));
  } catch (cause) {
    throw RepositoryErrors.OBJECT_DAMAGED({ object: SETTINGS_NAME, problem: 'it does not hold settings' }, { cause });
  }
}
