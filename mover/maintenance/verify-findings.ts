/** What a verification finds, and how much of it is kept. */
import { isTidemarkError, type TidemarkError } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';

/** One damaged thing and whom it hurts; empty ids when it is of no point in particular. */
export interface Finding {
  readonly code: string;
  readonly pointId: string;
  readonly diskId: string;
  /** First byte of the damage on the disk. */
  readonly offsetBytes?: number;
  readonly objectName: string;
  readonly message: string;
}

/** How many findings are kept; the rest is counted. */
export const MAX_FINDINGS = 1000;

export class Findings {
  readonly kept: Finding[] = [];
  count = 0;

  add(finding: Finding): void {
    this.count++;
    if (this.kept.length < MAX_FINDINGS) this.kept.push(finding);
  }

  /** True for a point whose manifest was found damaged, as far as findings are kept. */
  isDamagedPoint(pointId: string): boolean {
    return this.kept.some((finding) => finding.pointId === pointId && finding.code === 'MANIFEST_DAMAGED');
  }

  /** Of an object that is of no point in particular. */
  addObject(objectName: string, { code, message }: TidemarkError): void {
    this.add({ code, pointId: '', diskId: '', objectName, message });
  }

  addAll(others: Findings): void {
    for (const finding of others.kept) this.add(finding);
    this.count += others.count - others.kept.length;
  }
}

/** Damage as an error of ours; anything else, and trouble with the store as a whole, ends the run. */
export function damageOf(error: unknown): TidemarkError {
  if (!isTidemarkError(error) || error.code === 'CANCELLED') throw error;
  // A sector that cannot be read is damage of what lies there, not of the whole store.
  if (error.code === 'REPOSITORY_IO') {
    if (error.meta['reason'] === 'EIO')
      return RepositoryErrors.PACK_DAMAGED({ pack: String(error.meta['what']), problem: 'it cannot be read' });
    throw error;
  }
  return error;
}
