import { createHash } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import { bytesFromWire, timestampToWire } from '../../common/rpc/bytes';
import { failureMessage } from '../../common/rpc/failure-message';
import type { DataPath__Output } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { TransferCounters } from '../../proto/gen/tidemark/common/v1/TransferCounters';
import type { DiskOutcome as WireDiskOutcome } from '../../proto/gen/tidemark/plugin/v1/DiskOutcome';
import type { DataTransport } from '../../proto/gen/tidemark/plugin/v1/DataTransport';
import type { DiskReadMode } from '../../proto/gen/tidemark/plugin/v1/DiskReadMode';
import type { Outcome as WireOutcome } from '../../proto/gen/tidemark/plugin/v1/Outcome';
import type { Phase as WirePhase } from '../../proto/gen/tidemark/plugin/v1/Phase';
import type { Severity as WireSeverity } from '../../proto/gen/tidemark/plugin/v1/Severity';
import type { StartBackupRequest__Output } from '../../proto/gen/tidemark/plugin/v1/StartBackupRequest';
import type { StartRestoreRequest__Output } from '../../proto/gen/tidemark/plugin/v1/StartRestoreRequest';
import type { StoredDisk__Output } from '../../proto/gen/tidemark/plugin/v1/StoredDisk';
import type { OperationSummary } from '../../proto/gen/tidemark/plugin/v1/OperationSummary';
import type { VmReference__Output } from '../../proto/gen/tidemark/plugin/v1/VmReference';
import type { WatchOperationResponse } from '../../proto/gen/tidemark/plugin/v1/WatchOperationResponse';
import type {
  Counters,
  DiskOutcome,
  OperationEvent,
  Outcome,
  Phase,
  ReadMode,
  SequencedEvent,
  Severity,
  StoredDisk,
  Transport,
} from '../operations/events';
import type { Operation, VmKey } from '../operations/operation';
import type { BackupRequest, MacPolicy, RestoreRequest, RestoreTarget, WantedTransport } from '../protection/requests';

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const maxDiskParallel = 8;

const phases: Record<Phase, keyof typeof WirePhase> = {
  preparing: 'PHASE_PREPARING',
  starting: 'PHASE_STARTING',
  transferring: 'PHASE_TRANSFERRING',
  committing: 'PHASE_COMMITTING',
  cleaning: 'PHASE_CLEANING',
};
const outcomes: Record<Outcome, keyof typeof WireOutcome> = {
  success: 'OUTCOME_SUCCESS',
  warning: 'OUTCOME_WARNING',
  partial: 'OUTCOME_PARTIAL',
  failed: 'OUTCOME_FAILED',
  cancelled: 'OUTCOME_CANCELLED',
  skipped: 'OUTCOME_SKIPPED',
};
const modes: Record<ReadMode, keyof typeof DiskReadMode> = {
  full: 'DISK_READ_MODE_FULL',
  incremental: 'DISK_READ_MODE_INCREMENTAL',
  'digest-compare': 'DISK_READ_MODE_DIGEST_COMPARE',
};
const severities: Record<Severity, keyof typeof WireSeverity> = {
  info: 'SEVERITY_INFO',
  warning: 'SEVERITY_WARNING',
  blocking: 'SEVERITY_BLOCKING',
};
const wantedTransports: Partial<Record<string, WantedTransport>> = {
  DATA_TRANSPORT_IMAGE_TRANSFER: 'image-transfer',
  DATA_TRANSPORT_DISK_ATTACHMENT: 'disk-attachment',
};
const transports: Record<Transport, keyof typeof DataTransport> = {
  'image-transfer': 'DATA_TRANSPORT_IMAGE_TRANSFER',
  'disk-attachment': 'DATA_TRANSPORT_DISK_ATTACHMENT',
  local: 'DATA_TRANSPORT_UNSPECIFIED',
};
const macPolicies: Partial<Record<string, MacPolicy>> = { MAC_POLICY_KEEP: 'keep', MAC_POLICY_NEW: 'new' };

/** Throws ARGUMENT_INVALID. */
export function backupRequestFromWire(wire: StartBackupRequest__Output): BackupRequest {
  if (!wire.jobName) throw CommonErrors.ARGUMENT_INVALID({ field: 'job_name', problem: 'is missing' });
  if (wire.diskParallel < 0 || wire.diskParallel > maxDiskParallel) {
    throw CommonErrors.ARGUMENT_INVALID({ field: 'disk_parallel', problem: `must be 0 to ${maxDiskParallel}` });
  }
  return {
    operationId: operationId(wire.operationId),
    vm: vmKey(wire.vm),
    jobName: wire.jobName,
    sessionId: needed(wire.sessionId, 'session_id'),
    dataPath: dataPath(wire.dataPath),
    base: wire.base ? { pointId: wire.base.pointId, checkpointId: wire.base.checkpointId, diskIds: wire.base.diskIds } : undefined,
    forceFull: wire.forceFull,
    excludedDiskIds: wire.excludedDiskIds,
    requireConsistency: wire.requireConsistency,
    diskParallel: wire.diskParallel === 0 ? 2 : wire.diskParallel,
    transport: wantedTransports[wire.transport] ?? 'auto',
  };
}

/** Throws ARGUMENT_INVALID. */
export function restoreRequestFromWire(wire: StartRestoreRequest__Output): RestoreRequest {
  if (wire.disks.length === 0) throw CommonErrors.ARGUMENT_INVALID({ field: 'disks', problem: 'names no disk' });
  const target = restoreTarget(wire);
  if (target.kind !== 'new-vm' && wire.disks.length !== 1) {
    throw CommonErrors.ARGUMENT_INVALID({ field: 'disks', problem: 'must be one disk for this target' });
  }
  return {
    operationId: operationId(wire.operationId),
    platformId: target.kind === 'file' ? '' : needed(wire.platformId, 'platform_id'),
    sessionId: needed(wire.sessionId, 'session_id'),
    dataPath: dataPath(wire.dataPath),
    pointId: needed(wire.pointId, 'point_id'),
    disks: wire.disks.map(storedDisk),
    configuration: target.kind === 'new-vm' ? needed(wire.configuration, 'configuration') : wire.configuration,
    target,
    transport: wantedTransports[wire.transport] ?? 'auto',
  };
}

/** Digest of what a request asks for; a fresh ticket for the same work is the same request. */
export function fingerprintOf(wire: StartBackupRequest__Output | StartRestoreRequest__Output): string {
  const { endpoints, serverName, sessionId, repositoryId } = wire.dataPath ?? {
    endpoints: [],
    serverName: '',
    sessionId: '',
    repositoryId: '',
  };
  const text = JSON.stringify({ ...wire, dataPath: { endpoints, serverName, sessionId, repositoryId } });
  return createHash('sha256').update(text).digest('hex');
}

/** Throws ARGUMENT_INVALID. */
export function vmKey(wire: VmReference__Output | null): VmKey {
  return { platformId: needed(wire?.platformId, 'vm.platform_id'), vmId: needed(wire?.vmId, 'vm.vm_id') };
}

/** `undefined` is a keep-alive. */
export function eventToWire(sequenced: SequencedEvent | undefined): WatchOperationResponse {
  if (!sequenced) return { sequence: '0', occurredAt: timestampToWire(new Date()) };
  return {
    sequence: String(sequenced.sequence),
    occurredAt: timestampToWire(new Date(sequenced.at)),
    ...payload(sequenced.event),
  };
}

export function summaryToWire(operation: Operation): OperationSummary {
  const { header } = operation;
  return {
    operationId: header.operationId,
    vm: { platformId: header.platformId, vmId: header.vm?.vmId ?? '' },
    phase: phases[operation.currentPhase],
    final: operation.result !== undefined,
    outcome: operation.outcome === undefined ? 'OUTCOME_UNSPECIFIED' : outcomes[operation.outcome],
    lastSequence: String(operation.lastSequence),
  };
}

export function modeToWire(mode: ReadMode): keyof typeof DiskReadMode {
  return modes[mode];
}

export function severityToWire(severity: Severity): keyof typeof WireSeverity {
  return severities[severity];
}

function payload(event: OperationEvent): WatchOperationResponse {
  switch (event.type) {
    case 'state':
      return { state: { phase: phases[event.phase], waitingReason: event.waitingReason } };
    case 'progress':
      return {
        progress: {
          diskId: event.diskId,
          diskName: event.diskName,
          counters: countersToWire(event.counters),
          totalBytes: String(event.totalBytes),
          mode: modes[event.mode],
          reason: event.reason,
        },
      };
    case 'note':
      return { note: { code: event.code, severity: severities[event.severity], message: event.message, diskId: event.diskId } };
    case 'awaiting-commit':
      return {
        awaitingCommit: {
          pointInTime: timestampToWire(new Date(event.pointInTime)),
          checkpointId: event.checkpointId,
          consistency: event.consistency,
          disks: event.disks.map(outcomeToWire),
          configuration: event.configuration,
          vmName: event.vmName,
        },
      };
    case 'result':
      return {
        result: {
          outcome: outcomes[event.outcome],
          failure: event.failure ? failureMessage(event.failure) : null,
          createdId: event.createdId,
          disks: event.disks.map(outcomeToWire),
          leftForJanitor: [...event.leftForJanitor],
        },
      };
  }
}

function outcomeToWire(outcome: DiskOutcome): WireDiskOutcome {
  const { disk } = outcome;
  return {
    disk: { ...disk, sizeBytes: String(disk.sizeBytes), allocatedBytes: String(disk.allocatedBytes) },
    mode: modes[outcome.mode],
    reason: outcome.reason,
    counters: countersToWire(outcome.counters),
    startedAt: timestampToWire(new Date(outcome.startedAt)),
    endedAt: timestampToWire(new Date(outcome.endedAt)),
    transport: outcome.transport === undefined ? 'DATA_TRANSPORT_UNSPECIFIED' : transports[outcome.transport],
    workerId: outcome.workerId ?? '',
    workerHop: outcome.workerHop ?? '',
  };
}

function countersToWire(counters: Counters): TransferCounters {
  return {
    plannedBytes: String(counters.plannedBytes),
    readBytes: String(counters.readBytes),
    transferredBytes: String(counters.transferredBytes),
    storedBytes: String(counters.storedBytes),
    zeroBytes: String(counters.zeroBytes),
    deduplicatedBytes: String(counters.deduplicatedBytes),
  };
}

function restoreTarget(wire: StartRestoreRequest__Output): RestoreTarget {
  if (wire.newVm) {
    const { name, clusterId, storageDomainId, storageDomains, vnicProfiles, macPolicy, powerOn } = wire.newVm;
    return {
      kind: 'new-vm',
      name,
      clusterId,
      storageDomainId,
      storageDomains: new Map(storageDomains.map((m) => [m.fromId, m.toId])),
      vnicProfiles: new Map(vnicProfiles.map((m) => [m.fromId, m.toId])),
      macPolicy: macPolicies[macPolicy] ?? 'keep-if-free',
      powerOn,
    };
  }
  if (wire.newDisk) return { kind: 'new-disk', storageDomainId: wire.newDisk.storageDomainId, name: wire.newDisk.name };
  if (wire.file) return { kind: 'file', path: wire.file.path, format: wire.file.format };
  throw CommonErrors.ARGUMENT_INVALID({ field: 'target', problem: 'is missing' });
}

function storedDisk(wire: StoredDisk__Output): StoredDisk {
  return {
    ...wire,
    diskId: needed(wire.diskId, 'disks.disk_id'),
    sizeBytes: bytesFromWire(wire.sizeBytes, 'disks.size_bytes'),
    allocatedBytes: bytesFromWire(wire.allocatedBytes, 'disks.allocated_bytes'),
  };
}

/** Throws ARGUMENT_INVALID. */
export function dataPath(wire: DataPath__Output | null): DataPath__Output {
  if (!wire || wire.endpoints.length === 0) throw CommonErrors.ARGUMENT_INVALID({ field: 'data_path', problem: 'names no endpoint' });
  return wire;
}

function operationId(text: string): string {
  if (!uuid.test(text)) throw CommonErrors.ARGUMENT_INVALID({ field: 'operation_id', problem: 'is not a UUID' });
  return text;
}

function needed(text: string | undefined, field: string): string {
  if (text === undefined || text === '') throw CommonErrors.ARGUMENT_INVALID({ field, problem: 'is missing' });
  return text;
}
