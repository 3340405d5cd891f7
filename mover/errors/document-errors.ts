import { defineErrors } from '../../common/errors/define-errors';

/** Errors of the host's documents in a repository. */
export const DocumentErrors = defineErrors({
  DOCUMENT_NOT_FOUND: {
    kind: 'failure',
    retry: 'never',
    status: 'NOT_FOUND',
    message: (m: { name: string }) => `There is no document "${m.name}" in the repository.`,
  },
});
