import { EncryptionErrors } from '../../errors/encryption-errors';
import { CIPHER_NAME } from '../../format/encryption';
import type { RepositoryKey } from '../../format/key-slot';
import type { RepositoryHeader } from '../../format/repository-header';
import type { Store } from '../../stores/store';
import { RepositoryKeys } from './repository-keys';

/**
 * The keys of a repository that has some; undefined for one in the clear. Writes nothing. Throws REPOSITORY_KEY_NEEDED, REPOSITORY_KEY_WRONG,
 * REPOSITORY_ENCRYPTION_UNKNOWN, OBJECT_DAMAGED, and REPOSITORY_NOT_ENCRYPTED when a key was given for one in the clear: somebody may have
 * exchanged the header to get at what is written next.
 */
export async function openKeys(
  store: Store,
  header: RepositoryHeader,
  key: RepositoryKey | undefined,
): Promise<RepositoryKeys | undefined> {
  const { repositoryId, encryption } = header;
  if (!encryption) {
    if (key) throw EncryptionErrors.REPOSITORY_NOT_ENCRYPTED({ repositoryId });
    return undefined;
  }
  if (encryption.cipher !== CIPHER_NAME) throw EncryptionErrors.REPOSITORY_ENCRYPTION_UNKNOWN({ cipher: encryption.cipher });
  if (!key) throw EncryptionErrors.REPOSITORY_KEY_NEEDED({ repositoryId });
  return RepositoryKeys.open(store, repositoryId, encryption.keys, key);
}
