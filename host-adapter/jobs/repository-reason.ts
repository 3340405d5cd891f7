import type { TidemarkError } from '../../common/errors/tidemark-error';
import { Repositories } from '../repositories/repositories';
import { isTransient } from './task-context';

/** Waiting reason of a repository that cannot be reached now; undefined for errors that waiting does not help. */
export function repositoryReason(error: TidemarkError): string | undefined {
  return isTransient(error) || error.code === 'REPOSITORY_LOCKED' ? Repositories.reasonOf(error) : undefined;
}
