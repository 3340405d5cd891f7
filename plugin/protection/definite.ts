import { hasCode } from '../../common/errors/tidemark-error';

/**
 * The engine has answered a create with a refusal, so this request made nothing. (An earlier one whose answer was lost may have: look it up
 * by its id where there is one.) After any other error it is open, and the journal entry must stay.
 */
export function isDefiniteRefusal(error: unknown): boolean {
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
