/**
 * From an HTTP answer to a typed error. Statuses, fault shapes and the list of texts that mean "try again": engine REST API §1.5. The
 * engine sends translated sentences, not names; we ask for English and match on the words that the sentences of one name share.
 */
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { redactText } from '../../common/log/redact';
import { EngineErrors } from './engine-errors';
import { objectOf, textOf } from './mapping';
import type { Wire } from './mapping';

/** Shortest wait before a conflict is worth another try. */
const conflictDelayMs = 5_000;
const longestDetail = 500;

export interface EngineAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
}

/** `reason` and `detail` of a fault, bare or inside an action; the brackets of the Java list are taken off. Empty texts when absent. */
export function faultOf(body: Wire | undefined): { reason: string; detail: string } {
  const fault = (body && objectOf(body, 'fault')) ?? body ?? {};
  const detail = (textOf(fault, 'detail') ?? '').replace(/^\[([\s\S]*)\]$/, '$1').trim();
  return { reason: textOf(fault, 'reason') ?? '', detail: redactText(detail).slice(0, longestDetail) };
}

const waits: readonly RegExp[] = [
  // DISKS_LOCKED, DISK_IS_LOCKED, VM_IS_LOCKED, image locked, OBJECT_LOCKED
  /\blocked\b/i,
  /\btry again\b/i,
  /operation is (currently )?in progress/i,
  // VM_IS_DURING_SNAPSHOT, SNAPSHOT_IS_BEING_TAKEN_FOR_VM
  /performing an operation on a snapshot/i,
  /snapshot (operation )?is (currently )?(being|in progress)/i,
  // DISK_IS_BEING_TRANSFERRED, DISK_IS_BEING_MIGRATED, MIGRATION_IN_PROGRESS, checkpoint removal
  /\b(is|are) (currently )?being (transferred|migrated|moved|copied|removed|created)/i,
  /migration (is )?in progress|\bis migrating\b/i,
  // VM_IS_DURING_BACKUP, ACTIVE_IMAGE_TRANSFER_FOR_VM_BACKUP, VM_BACKUP_NOT_READY
  /during (a |the )?(VM )?backup/i,
  /active image transfer/i,
  /backup\b.*\bnot ready/i,
];
const hotPlugFailed = /failed to hot-?(un)?plug/i;

/** True for conflicts that pass by themselves. */
export function passesByItself(status: number, detail: string): boolean {
  if (hotPlugFailed.test(detail)) return true;
  return status === 409 && waits.some((pattern) => pattern.test(detail));
}

/** The error that a failed answer stands for. `operation` is method and path; `engine` its host. */
export function errorOfAnswer(engine: string, operation: string, answer: EngineAnswer): TidemarkError {
  const { status } = answer;
  const body = parseJson(answer);
  if (body === undefined && answer.text.trim() !== '' && (status === 404 || status >= 500)) {
    // The web server answers for an engine that starts or stops; a 404 in HTML does not say that the entity is gone.
    return EngineErrors.ENGINE_UNAVAILABLE({ engine, problem: `HTTP ${status} from the web server; the engine is starting or stopping` });
  }
  const { reason, detail } = faultOf(body);
  switch (status) {
    case 404:
      return EngineErrors.ENGINE_NOT_FOUND({ what: whatOf(operation) });
    case 403:
      return EngineErrors.ENGINE_PERMISSION_MISSING({ operation, detail: detail || reason || 'HTTP 403' });
    case 502:
    case 503:
    case 504:
      return EngineErrors.ENGINE_UNAVAILABLE({ engine, problem: `HTTP ${status}` });
    case 405:
    case 415:
      return EngineErrors.ENGINE_REQUEST_INVALID({ operation, detail: `HTTP ${status}` });
    default:
  }
  if (passesByItself(status, detail)) return EngineErrors.ENGINE_CONFLICT({ operation, detail }, { retryDelayMs: conflictDelayMs });
  if (status === 400 && /syntactically|incomplete parameters/i.test(reason)) {
    return EngineErrors.ENGINE_REQUEST_INVALID({ operation, detail: `${reason} ${detail}`.trim() });
  }
  if (status >= 500 && (detail === '' || /internal engine error/i.test(detail))) {
    return EngineErrors.ENGINE_INTERNAL_FAILURE({ operation, detail: detail || reason || `HTTP ${status}` });
  }
  return EngineErrors.ENGINE_REFUSED({ operation, httpStatus: status, detail });
}

/** True when the engine gave no reason (`[]`): its events may. */
export function isWithoutReason(error: unknown): boolean {
  return hasCode(error, 'ENGINE_REFUSED', 'ENGINE_INTERNAL_FAILURE') && /^$|internal engine error/i.test(String(error.meta['detail']));
}

/** The JSON object of an answer; undefined when it is something else. */
export function parseJson(answer: EngineAnswer): Wire | undefined {
  if (answer.text.trim() === '' || /html/i.test(answer.contentType)) return undefined;
  try {
    const parsed: unknown = JSON.parse(answer.text);
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? (parsed as Wire) : undefined;
  } catch {
    // Not JSON: the caller decides by status what that means.
    return undefined;
  }
}

/** `GET /vms/123/backups/456` becomes `vms/123/backups/456`. */
function whatOf(operation: string): string {
  return operation.replace(/^\S+ \//, '').replace(/\?.*$/, '');
}
