/** Keys of encrypted repositories on the command line: from files or typed, never as an argument. */
import fs from 'node:fs';
import { usage } from './cli-failure';
import type { CliProcess } from './context';
import { readPassword } from './passwords';

export interface KeyOptions {
  readonly passphraseFile?: string;
  readonly keyFile?: string;
  readonly recoveryKeyFile?: string;
}

export interface GivenKey {
  readonly kind: 'passphrase' | 'key-file' | 'recovery';
  readonly secret: string;
}

const kinds = [
  ['passphraseFile', '--passphrase-file', 'passphrase'],
  ['keyFile', '--key-file', 'key-file'],
  ['recoveryKeyFile', '--recovery-key-file', 'recovery'],
] as const;

/** The key that the options name; undefined when there is none. Throws USAGE for two of them or a file that cannot be read. */
export function keyFromOptions(options: KeyOptions): GivenKey | undefined {
  const given = kinds.filter(([field]) => options[field] !== undefined);
  if (given.length > 1) throw usage(`give one of ${given.map(([, flag]) => flag).join(', ')}`);
  const [first] = given;
  if (!first) return undefined;
  const [field, flag, kind] = first;
  try {
    return { kind, secret: fs.readFileSync(options[field] as string, 'utf8').replace(/\r?\n$/, '') };
  } catch (error) {
    throw usage(`${flag}: ${(error as Error).message}`);
  }
}

/** A new passphrase, typed twice. Throws USAGE when nobody is there to type. */
export async function newPassphrase(process: CliProcess, otherwise: string): Promise<GivenKey> {
  if (!process.stdin.isTTY) throw usage(otherwise);
  const secret = await readPassword(process, {}, 'Passphrase of the repository (at least 12 characters): ');
  if (secret !== (await readPassword(process, {}, 'Again: '))) throw usage('the two passphrases differ');
  return { kind: 'passphrase', secret };
}

/** What is said once of a recovery key. */
export function recoveryKeyText(recoveryKey: string): string {
  return (
    `recovery key: ${recoveryKey}\n` +
    'Write it down and keep it away from this server: it opens the repository when every other key is lost. It is not shown again, and\n' +
    'without any key nobody can restore anything.'
  );
}
