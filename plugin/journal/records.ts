/**
 * The journal's lines: JSON, one record a line, version 1. A record replaces what an earlier one said of the same entry or operation.
 *
 * | field | meaning |
 * | --- | --- |
 * | `v` | 1 |
 * | `entry` | a {@link JournalEntry}, whole |
 * | `started` | an operation's header |
 * | `ended` | an operation's id, time and result |
 * | `forget` | an operation that no longer answers |
 *
 * No secrets: no tickets, no configuration, no URLs.
 */
import { TidemarkError } from '../../common/errors/tidemark-error';
import type { ErrorKind, ErrorMeta, RetryAdvice, StatusName } from '../../common/errors/tidemark-error';
import type { ResultEvent } from '../operations/events';
import type { OperationHeader } from '../operations/operation';

export type EntryKind = 'backup' | 'image-transfer' | 'attachment' | 'checkpoint' | 'snapshot' | 'disk' | 'vm';

/** `kept` and `removed` are ends: the object is no longer the janitor's business. */
export type EntryState = 'intent' | 'created' | 'removed' | 'kept';

/** One object of ours in an engine. */
export interface JournalEntry {
  readonly entryId: string;
  readonly operationId: string;
  readonly platformId: string;
  /** The VM it belongs to; empty for a disk of no VM. */
  readonly vmId: string;
  readonly kind: EntryKind;
  readonly state: EntryState;
  /** Its id in the engine; known at intent when we choose it. */
  readonly objectId?: string | undefined;
  /** The exact description that we give it. */
  readonly mark: string;
  /** What else is needed to find it: diskId, backupId, direction, name, workerVmId, snapshotId … */
  readonly details: Readonly<Record<string, string>>;
  readonly intendedAt: number;
}

export interface StoredFailure {
  readonly code: string;
  readonly kind: ErrorKind;
  readonly retry: RetryAdvice;
  readonly status: StatusName;
  readonly message: string;
  readonly meta: ErrorMeta;
  readonly retryDelayMs?: number | undefined;
  readonly correlationId?: string | undefined;
}

export type StoredResult = Omit<ResultEvent, 'failure' | 'type'> & { readonly failure?: StoredFailure | undefined };

export type JournalRecord =
  | { readonly v: 1; readonly entry: JournalEntry }
  | { readonly v: 1; readonly started: OperationHeader }
  | { readonly v: 1; readonly ended: { readonly operationId: string; readonly at: number; readonly result: StoredResult } }
  | { readonly v: 1; readonly forget: string };

export function storeResult(result: Omit<ResultEvent, 'type'>): StoredResult {
  const { failure, outcome, createdId, disks, leftForJanitor } = result;
  return { outcome, createdId, disks, leftForJanitor, ...(failure === undefined ? {} : { failure: storeFailure(failure) }) };
}

export function restoreResult(stored: StoredResult): Omit<ResultEvent, 'type'> {
  const { failure, ...rest } = stored;
  if (!failure) return rest;
  const { message, meta, retryDelayMs, correlationId, ...traits } = failure;
  return { ...rest, failure: new TidemarkError(traits, message, { meta, retryDelayMs, correlationId }) };
}

function storeFailure(error: TidemarkError): StoredFailure {
  const { code, kind, retry, status, message, meta, retryDelayMs, correlationId } = error;
  return { code, kind, retry, status, message, meta, retryDelayMs, correlationId };
}
