import type { Core } from '../model/core';
import type { Transfer } from '../model/entities';

/** Transfers that still hold their disk and host. */
export const unfinishedTransfers = (core: Core): Transfer[] =>
  core.db.transfers.list((transfer) => transfer.phase !== 'finished_success' && transfer.phase !== 'finished_failure');
