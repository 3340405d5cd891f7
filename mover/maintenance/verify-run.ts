import { setImmediate } from 'node:timers/promises';
import { CommonErrors } from '../../common/errors/common-errors';
import type { RateLimit } from '../../common/flow/rate-limit';
import type { Repository } from '../repository/repository';
import type { Findings } from './verify-findings';

export interface VerifyProgress {
  checkedBlocks: number;
  /** Of the points, or packs, known so far. */
  totalBlocks: number;
  checkedBytes: number;
  checkedPoints: number;
  checkedPacks: number;
  totalPacks: number;
  /** Verified within the period, and left alone. */
  skippedPacks: number;
  /** Put into quarantine by this run. */
  quarantinedBlocks: number;
  /** In quarantine, with a good copy elsewhere. */
  healedBlocks: number;
}

/** What the parts of one verification share. */
export class VerifyRun {
  readonly progress: VerifyProgress = {
    checkedBlocks: 0,
    totalBlocks: 0,
    checkedBytes: 0,
    checkedPoints: 0,
    checkedPacks: 0,
    totalPacks: 0,
    skippedPacks: 0,
    quarantinedBlocks: 0,
    healedBlocks: 0,
  };

  private readonly end = new AbortController();
  private readonly signal: AbortSignal;

  constructor(
    readonly repository: Repository,
    readonly findings: Findings,
    signal: AbortSignal,
    private readonly rate: RateLimit,
  ) {
    this.signal = AbortSignal.any([signal, this.end.signal]);
  }

  /** It has failed: what it still reads ahead ends with CANCELLED. */
  giveUp(): void {
    this.end.abort();
  }

  /** Throws CANCELLED. */
  assertGoesOn(): void {
    if (this.signal.aborted) throw CommonErrors.CANCELLED({ what: 'verification' });
  }

  /** Waits until `bytes` may be read. Throws CANCELLED. */
  async mayRead(bytes: number): Promise<void> {
    this.assertGoesOn();
    await this.rate.take(bytes, this.signal);
  }

  /** Lets the mover's other work have a turn: a block takes a millisecond to decompress and digest. */
  async breathe(): Promise<void> {
    await setImmediate();
    this.assertGoesOn();
  }
}
