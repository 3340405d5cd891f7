import fs from 'node:fs';
import { CommonErrors } from '../../common/errors/common-errors';
import { Secret } from '../../common/log/redact';
import type { RepositoryKey, SlotKind } from '../format/key-slot';

const flags: readonly (readonly [string, SlotKind])[] = [
  ['passphrase-file', 'passphrase'],
  ['key-file', 'key-file'],
  ['recovery-key-file', 'recovery'],
];

/** The key of an encrypted repository from a file that an option names. Throws ARGUMENT_INVALID for two of them or an unreadable file. */
export function keyOf(options: Readonly<Record<string, unknown>>): RepositoryKey | undefined {
  const given = flags.filter(([flag]) => options[flag] !== undefined);
  const [first] = given;
  if (!first) return undefined;
  const [flag, kind] = first;
  if (given.length > 1) throw CommonErrors.ARGUMENT_INVALID({ field: `--${flag}`, problem: 'only one key can be given' });
  const file = String(options[flag]);
  try {
    return { kind, secret: new Secret(fs.readFileSync(file, 'utf8').replace(/\r?\n$/, '')) };
  } catch (cause) {
    throw CommonErrors.ARGUMENT_INVALID({ field: `--${flag}`, problem: `${file} cannot be read` }, { cause });
  }
}
