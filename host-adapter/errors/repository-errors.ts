import { defineErrors } from '../../common/errors/define-errors';

/** Errors of changing how a repository is served. Codes are listed in docs/errors.md. */
export const HostRepositoryErrors = defineErrors({
  REPOSITORY_ACCESS_REFUSED: {
    kind: 'failure',
    retry: 'after-operator',
    status: 'INVALID_ARGUMENT',
    message: (m: { field: string; repository: string; problem: string }) =>
      `The new access key of repository ${m.repository} was tried and does not do: ${m.problem}. Nothing is changed, the one before stays in use.`,
  },
});
