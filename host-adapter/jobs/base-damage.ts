import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import { HostErrors } from '../errors/host-errors';
import type { TaskContext } from './task-context';

/** Codes by which a mover says that it cannot build on what is there. */
const damageCodes = ['INDEX_PAGE_DAMAGED', 'BLOCK_MISSING', 'BLOCK_CORRUPT', 'MANIFEST_DAMAGED', 'OBJECT_DAMAGED'] as const;

/** A backup whose base is damaged is run again and reads everything; one that did so already fails with what it met. */
export function asBaseDamage(context: TaskContext, thrown: unknown): unknown {
  const { task } = context;
  const [pointId] = task.path?.pointIds ?? [];
  if (pointId === undefined || task.forceFull || !isTidemarkError(thrown) || !hasCode(thrown, ...damageCodes)) return thrown;
  const error = HostErrors.BASE_POINT_DAMAGED({ code: thrown.code, pointId }, { cause: thrown });
  context.note({ code: 'base-damaged', severity: 'warning', message: error.message, diskId: '' });
  return error;
}
