import { EngineErrors } from '../engine/engine-errors';
import { errorOfAnswer } from '../engine/engine-fault';
import { attachmentError } from './attachment-refusal';

const refused = { workerVmId: 'w', diskId: 'd', snapshotId: 's' as string | undefined };

/** As the engine's answer comes through plugin/engine. */
function answered(status: number, detail: string): unknown {
  const text = JSON.stringify({ reason: 'Operation Failed', detail: `[${detail}]` });
  return errorOfAnswer('engine', 'POST /vms/w/diskattachments', { status, contentType: 'application/json', text });
}

/** Engine REST API §7.1, every row; sentences as an engine words them. */
const refusals: [string, number, string, string, string][] = [
  [
    'disk locked',
    409,
    'Cannot attach Virtual Disk: The following disks are locked: web. Please try again in a few minutes.',
    'ATTACH_DISK_LOCKED',
    'after-delay',
  ],
  [
    'held by a hybrid backup',
    409,
    'Related operation is currently in progress. Please try again later.',
    'ATTACH_DISK_LOCKED',
    'after-delay',
  ],
  ['snapshot not ok', 409, 'Cannot attach Virtual Disk. The snapshot is not in status ok.', 'ATTACH_SNAPSHOT_UNUSABLE', 'same-request'],
  ['VM in preview', 409, 'Cannot attach Virtual Disk. VM is previewing a Snapshot.', 'ATTACH_SNAPSHOT_UNUSABLE', 'same-request'],
  ['attached to this worker', 409, 'Cannot attach Virtual Disk. The disk is already attached to VM.', 'ATTACH_DISK_TAKEN', 'after-delay'],
  [
    'attached elsewhere',
    409,
    'Cannot attach Virtual Disk. The disk is already attached to VM web and is not shareable.',
    'ATTACH_DISK_TAKEN',
    'after-delay',
  ],
  [
    'another data centre',
    409,
    'Cannot attach Virtual Disk. VM and disk are in different Data Centers.',
    'ATTACH_OTHER_DATA_CENTER',
    'after-operator',
  ],
  ['no controller', 409, 'Cannot attach Virtual Disk. VirtIO-SCSI interface is disabled for VM.', 'ATTACH_NO_CONTROLLER', 'after-operator'],
  ['no slot', 400, 'Cannot attach Virtual Disk. Maximum PCI devices exceeded.', 'ATTACH_NO_CONTROLLER', 'after-operator'],
  ['hosted engine', 409, 'Cannot attach Virtual Disk. The disk belongs to the Hosted Engine.', 'ATTACH_NOT_ALLOWED', 'never'],
  ['host fails to plug', 400, 'Failed to hot-plug disk', 'ATTACH_PLUG_FAILED', 'same-request'],
  ['worker not up', 409, 'Cannot attach Virtual Disk. VM must be up, paused or down.', 'ATTACH_WORKER_VM_STATE', 'same-request'],
];

it.each(refusals)('%s', (_name, status, detail, code, retry) => {
  expect(attachmentError(answered(status, detail), refused)).toMatchObject({ code, retry });
});

it('a snapshot that is gone is unusable; a disk without one that is gone stays not found', () => {
  const gone = EngineErrors.ENGINE_NOT_FOUND({ what: 'snapshot' });
  expect(attachmentError(gone, refused)).toMatchObject({ code: 'ATTACH_SNAPSHOT_UNUSABLE' });
  expect(attachmentError(gone, { ...refused, snapshotId: undefined })).toBe(gone);
});

it('anything else stays what it is', () => {
  const other = answered(409, 'Cannot attach Virtual Disk. The quota is used up.');
  expect(attachmentError(other, refused)).toBe(other);
  const away = EngineErrors.ENGINE_UNAVAILABLE({ engine: 'e', problem: 'p' });
  expect(attachmentError(away, refused)).toBe(away);
});
