import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import { AttachmentErrors } from './attachment-errors';

export interface RefusedAttachment {
  readonly workerVmId: string;
  readonly diskId: string;
  /** Of the backup; undefined for a disk that is restored. */
  readonly snapshotId: string | undefined;
}

/** The disk hangs on this or another VM already. */
export function isAlreadyAttached(error: unknown): boolean {
  return hasCode(error, 'ENGINE_REFUSED', 'ENGINE_CONFLICT') && /already attached|is attached to (another|vm)/i.test(detailOf(error));
}

/** The row is there, but the host did not take the device. */
export function isPlugFailure(error: unknown): boolean {
  return hasCode(error, 'ENGINE_REFUSED', 'ENGINE_CONFLICT') && /failed to hot-?plug/i.test(detailOf(error));
}

/**
 * The refusals of engine REST API §7.1 in our words, with what helps. The engine sends sentences, so they are told by the words that the
 * sentences of one name share; anything else stays what it is.
 */
export function attachmentError(error: unknown, refused: RefusedAttachment): unknown {
  if (!isTidemarkError(error)) return error;
  const { workerVmId, diskId, snapshotId } = refused;
  const detail = detailOf(error);
  const more = { cause: error };
  if (isPlugFailure(error)) return AttachmentErrors.ATTACH_PLUG_FAILED({ diskId, workerVmId, detail }, more);
  if (isAlreadyAttached(error)) return AttachmentErrors.ATTACH_DISK_TAKEN({ diskId, workerVmId }, { ...more, retryDelayMs });
  if (error.code === 'ENGINE_CONFLICT') {
    return AttachmentErrors.ATTACH_DISK_LOCKED({ diskId, workerVmId, detail }, { ...more, retryDelayMs });
  }
  if (error.code === 'ENGINE_NOT_FOUND' && snapshotId !== undefined) {
    return AttachmentErrors.ATTACH_SNAPSHOT_UNUSABLE({ diskId, snapshotId, detail: 'the engine does not know it any more' }, more);
  }
  if (error.code !== 'ENGINE_REFUSED') return error;
  if (/data cent(er|re)s?|storage pool/i.test(detail)) return AttachmentErrors.ATTACH_OTHER_DATA_CENTER({ diskId, workerVmId }, more);
  if (/hosted engine/i.test(detail)) return AttachmentErrors.ATTACH_NOT_ALLOWED({ diskId, detail }, more);
  if (/virtio-?scsi|controller|\bpci\b|\bide\b|slots?\b/i.test(detail)) {
    return AttachmentErrors.ATTACH_NO_CONTROLLER({ workerVmId, detail }, more);
  }
  if (snapshotId !== undefined && /snapshot|preview/i.test(detail)) {
    return AttachmentErrors.ATTACH_SNAPSHOT_UNUSABLE({ diskId, snapshotId, detail }, more);
  }
  if (/must be up|vm status|vm is (down|not up)/i.test(detail)) {
    return AttachmentErrors.ATTACH_WORKER_VM_STATE({ workerVmId, status: 'not up' }, more);
  }
  return error;
}

const retryDelayMs = 30_000;

function detailOf(error: unknown): string {
  return isTidemarkError(error) ? String(error.meta['detail'] ?? '') : '';
}
