import { defineErrors } from '../../common/errors/define-errors';

/** Errors of encrypted repositories and their keys. */
export const EncryptionErrors = defineErrors({
  REPOSITORY_KEY_NEEDED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { repositoryId: string }) =>
      `Repository ${m.repositoryId} is encrypted. Give its key: a passphrase, a key file or the recovery key.`,
  },
  REPOSITORY_KEY_WRONG: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'PERMISSION_DENIED',
    message: (m: { repositoryId: string; kind: string }) =>
      `This ${m.kind} does not open repository ${m.repositoryId}. Nothing was written. Try another key of the repository, or its recovery key.`,
  },
  REPOSITORY_ENCRYPTION_UNKNOWN: {
    kind: 'failure',
    retry: 'never',
    status: 'UNIMPLEMENTED',
    message: (m: { cipher: string }) =>
      `The repository is encrypted with "${m.cipher}", which this version of Tidemark does not know. Upgrade the mover.`,
  },
  REPOSITORY_NOT_ENCRYPTED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { repositoryId: string }) =>
      `Repository ${m.repositoryId} is not encrypted and has no keys. If it was encrypted before, its header was exchanged: put back a copy of it, and find out who did that.`,
  },
  REPOSITORY_KEY_SLOT_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { slotId: string }) => `There is no key ${m.slotId} in the repository. List its keys.`,
  },
  REPOSITORY_KEY_SLOT_IN_USE: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'FAILED_PRECONDITION',
    message: (m: { slotId: string }) =>
      `The mover itself opens the repository with key ${m.slotId}. Attach the repository with another key first, then remove this one.`,
  },
  REPOSITORY_KEY_SLOTS_FULL: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'RESOURCE_EXHAUSTED',
    message: (m: { limit: number }) => `The repository has ${m.limit} keys already. Remove one first.`,
  },
});
