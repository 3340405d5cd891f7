import { defineErrors } from '../errors/define-errors';

/** Errors of lists of extents, whoever asked for them. */
export const ExtentsErrors = defineErrors({
  IMAGE_EXTENTS_INVALID: {
    kind: 'operational',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { problem: string }) => `The image service answered a list of extents that cannot be used: ${m.problem}.`,
  },
});
