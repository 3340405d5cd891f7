import { randomUUID } from 'node:crypto';
import type { Secret } from '../../../common/log/redact';
import { RepositoryErrors } from '../../errors/mover-errors';
import { CIPHER_NAME } from '../../format/encryption';
import { secretBytes, type scryptCost } from '../../format/key-slot';
import { keysName } from '../../format/keys-document';
import { encodeHeaderDocument, HEADER_NAME, type RepositoryHeader } from '../../format/repository-header';
import type { Store } from '../../stores/store';
import { readHeader, type RepositorySettings } from '../repository';
import { RepositoryKeys, type SlotSecret } from './repository-keys';

/**
 * Makes a new, empty, encrypted repository: its keys under a name of its own, then the header as the last step. The caller has checked that
 * nothing else is there. Throws REPOSITORY_EXISTS, ARGUMENT_INVALID.
 */
export async function createEncryptedRepository(
  store: Store,
  requestId: string,
  settings: RepositorySettings,
  key: SlotSecret,
  now: Date,
  cost?: typeof scryptCost,
): Promise<{ header: RepositoryHeader; recoveryKey: Secret }> {
  secretBytes(key);
  const repositoryId = randomUUID();
  const { recoveryKey } = await RepositoryKeys.create(store, repositoryId, key, now, cost);
  const header: RepositoryHeader = {
    repositoryId,
    createdAt: now.toISOString(),
    requestId,
    ...settings,
    encryption: { cipher: CIPHER_NAME, keys: keysName(repositoryId) },
  };
  if (!(await store.putNew(HEADER_NAME, encodeHeaderDocument(header))))
    throw RepositoryErrors.REPOSITORY_EXISTS({ repositoryId: (await readHeader(store)).repositoryId });
  return { header, recoveryKey };
}
