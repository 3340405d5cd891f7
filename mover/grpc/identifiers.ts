import { CommonErrors } from '../../common/errors/common-errors';

/** A UUID in lower case: these become names of objects. */
export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(text);
}

/** Throws ARGUMENT_INVALID. */
export function requireUuid(text: string, field: string): string {
  if (!isUuid(text)) throw CommonErrors.ARGUMENT_INVALID({ field, problem: 'it is no UUID in lower case' });
  return text;
}
