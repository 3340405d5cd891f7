import { hasCode } from '../../common/errors/tidemark-error';

/** What a cancel says of a create that had not begun. */
export const notSent = 'a request that was not sent';

/**
 * The engine has answered a create with a refusal, or it was never asked, so this request made nothing. (An earlier one whose answer was lost may have: look it up
 * by its id where there is one.) After any other error it is open, and the journal entry must stay.
 */
export function isDefiniteRefusal(error: unknown): boolean {
  if (hasCode(error, 'CANCELLED') && error.meta['what'] === notSent) return true;
  return hasCode(
    error,
    'ENGINE_REFUSED',
    'ENGINE_CONFLICT',
    'ENGINE_NOT_FOUND',
    'ENGINE_PERMISSION_MISSING',
    'ENGINE_REQUEST_INVALID',
    'ENGINE_CHECKPOINT_UNUSABLE',
  );
}
