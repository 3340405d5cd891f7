import { defineErrors } from '../../common/errors/define-errors';

export const InventoryErrors = defineErrors({
  PAGE_TOKEN_INVALID: {
    kind: 'failure',
    retry: 'never',
    status: 'INVALID_ARGUMENT',
    message: () => 'The page token does not belong to this listing. Start from the first page.',
  },
});
