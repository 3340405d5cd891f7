/** Keys of encrypted repositories on the wire: the messages, and the methods of RepositoryService that are about keys. */
import { CommonErrors } from '../../common/errors/common-errors';
import { Secret } from '../../common/log/redact';
import { timestampToWire } from '../../common/rpc/bytes';
import type { ServiceHandlers } from '../../common/rpc/serve';
import type { RepositoryKey__Output } from '../../proto/gen/tidemark/mover/v1/RepositoryKey';
import type { RepositoryKeyKind } from '../../proto/gen/tidemark/mover/v1/RepositoryKeyKind';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import { EncryptionErrors } from '../errors/encryption-errors';
import type { SlotKind } from '../format/key-slot';
import type { AttachedRepositories } from '../repository/served/attached-repositories';
import type { Repository } from '../repository/repository';
import type { RepositoryKeys, SlotSecret } from '../repository/keys/repository-keys';
import { isUuid } from './identifiers';

const roles = ['host'] as const;

const kindToWire: Readonly<Record<SlotKind, RepositoryKeyKind>> = {
  passphrase: 'REPOSITORY_KEY_KIND_PASSPHRASE',
  'key-file': 'REPOSITORY_KEY_KIND_KEY_FILE',
  recovery: 'REPOSITORY_KEY_KIND_RECOVERY',
};

/** Throws ARGUMENT_INVALID for a kind that is not known. */
export function keyFromWire(key: RepositoryKey__Output | null): SlotSecret | undefined {
  if (!key) return undefined;
  const kind = (Object.keys(kindToWire) as SlotKind[]).find((one) => kindToWire[one] === key.kind);
  if (!kind) throw CommonErrors.ARGUMENT_INVALID({ field: 'key.kind', problem: `${key.kind} is none that is known` });
  return { kind, secret: new Secret(key.secret) };
}

/** For a new repository: its first key is one that a person has. */
export function firstKeyFromWire(wire: RepositoryKey__Output | null): SlotSecret | undefined {
  const key = keyFromWire(wire);
  if (key?.kind === 'recovery')
    throw CommonErrors.ARGUMENT_INVALID({ field: 'key.kind', problem: 'a new repository begins with a passphrase or a key file' });
  return key;
}

type KeyMethods = 'ListRepositoryKeySlots' | 'AddRepositoryKeySlot' | 'RemoveRepositoryKeySlot' | 'RotateRepositoryKey';

export function keyHandlers(repositories: AttachedRepositories): Pick<ServiceHandlers<RepositoryServiceDefinition>, KeyMethods> {
  /** For changes: the lock is held, as far as anybody can tell. */
  const writable = async (repositoryId: string) => {
    const repository = repositories.get(repositoryId);
    const keys = keysOf(repository);
    await repository.assertWritable();
    return keys;
  };
  return {
    ListRepositoryKeySlots: {
      roles,
      unary: async (request) => {
        const keys = keysOf(repositories.get(request.repositoryId));
        return {
          slots: keys.slots.map(({ slotId, kind, createdAt }) => ({
            slotId,
            kind: kindToWire[kind],
            createdAt: timestampToWire(new Date(createdAt)),
            inUse: slotId === keys.ownSlotId,
          })),
          rotatedAt: timestampToWire(keys.rotatedAt),
          dataKeyCount: keys.ringSize,
        };
      },
    },
    AddRepositoryKeySlot: {
      roles,
      unary: async ({ repositoryId, slotId, key: wire }) => {
        if (!isUuid(slotId)) throw CommonErrors.ARGUMENT_INVALID({ field: 'slot_id', problem: 'it is no UUID' });
        const keys = await writable(repositoryId);
        const key = keyFromWire(wire);
        if (!key) throw CommonErrors.ARGUMENT_INVALID({ field: 'key', problem: 'it is missing' });
        if (key.kind === 'recovery') return { recoveryKey: (await keys.addRecoveryKey(slotId, new Date())).reveal() };
        await keys.addSlot(slotId, key, new Date());
        return {};
      },
    },
    RemoveRepositoryKeySlot: {
      roles,
      unary: async ({ repositoryId, slotId }) => {
        await (await writable(repositoryId)).removeSlot(slotId);
        return {};
      },
    },
    RotateRepositoryKey: {
      roles,
      unary: async ({ repositoryId }) => {
        const keys = await writable(repositoryId);
        await keys.rotate(new Date());
        return { rotatedAt: timestampToWire(keys.rotatedAt) };
      },
    },
  };
}

/** Throws REPOSITORY_NOT_ENCRYPTED. */
function keysOf({ keys, id }: Repository): RepositoryKeys {
  if (!keys) throw EncryptionErrors.REPOSITORY_NOT_ENCRYPTED({ repositoryId: id });
  return keys;
}
