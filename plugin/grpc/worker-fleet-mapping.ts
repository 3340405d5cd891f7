import { createHash } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import { bytesFromWire, durationFromWire, durationToWire, timestampToWire } from '../../common/rpc/bytes';
import type { FleetPolicy as WirePolicy } from '../../proto/gen/tidemark/plugin/v1/FleetPolicy';
import type { FleetPolicy__Output } from '../../proto/gen/tidemark/plugin/v1/FleetPolicy';
import type { StartWorkerOperationRequest__Output } from '../../proto/gen/tidemark/plugin/v1/StartWorkerOperationRequest';
import type { Worker as WireWorker } from '../../proto/gen/tidemark/plugin/v1/Worker';
import type { WorkerAddress } from '../../proto/gen/tidemark/plugin/v1/WorkerAddress';
import type { WorkerAddress__Output } from '../../proto/gen/tidemark/plugin/v1/WorkerAddress';
import type { WorkerSettings as WireSettings } from '../../proto/gen/tidemark/plugin/v1/WorkerSettings';
import type { WorkerSettings__Output } from '../../proto/gen/tidemark/plugin/v1/WorkerSettings';
import { defaultPolicy } from '../worker-vms/policy';
import type { FleetPolicy } from '../worker-vms/policy';
import { defaultSettings } from '../worker-vms/settings';
import type { WorkerNic, WorkerSettings } from '../worker-vms/settings';
import type { ListedWorker } from '../worker-vms/worker-list';
import type { WorkerAction, WorkerOperationRequest } from '../worker-vms/worker-vms';

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const methods: Partial<Record<string, WorkerNic['ipv4']['method']>> = {
  ADDRESS_METHOD_NONE: 'none',
  ADDRESS_METHOD_STATIC: 'static',
};
const wireMethods = {
  none: 'ADDRESS_METHOD_NONE',
  automatic: 'ADDRESS_METHOD_AUTOMATIC',
  static: 'ADDRESS_METHOD_STATIC',
} as const;

export function workerToWire(worker: ListedWorker): WireWorker {
  const { lastSeenAt, createdAt, settings, certificateExpiresAt, residentMemoryBytes, addresses, ...rest } = worker;
  return {
    ...rest,
    addresses: [...addresses],
    residentMemoryBytes: String(residentMemoryBytes),
    lastSeenAt: lastSeenAt === undefined ? null : timestampToWire(new Date(lastSeenAt)),
    createdAt: createdAt === undefined ? null : timestampToWire(new Date(createdAt)),
    settings: settings ? settingsToWire(settings) : null,
    certificateExpiresAt: certificateExpiresAt?.expiresAt ?? null,
  };
}

/** Throws ARGUMENT_INVALID. What the settings may hold is checked by their owner. */
export function workerOperationFromWire(wire: StartWorkerOperationRequest__Output): WorkerOperationRequest {
  return {
    operationId: uuidOf(wire.operationId, 'operation_id'),
    requestedBy: wire.requestedBy.slice(0, 200),
    action: actionOf(wire),
    fingerprint: createHash('sha256').update(JSON.stringify(wire)).digest('hex'),
  };
}

/** Absent means default everywhere; booleans are what they are. Throws ARGUMENT_INVALID. */
export function policyFromWire(wire: FleetPolicy__Output | null): FleetPolicy {
  if (!wire) throw CommonErrors.ARGUMENT_INVALID({ field: 'policy', problem: 'is missing' });
  const defaults = defaultPolicy(wire.platformId);
  const or = (value: number, otherwise: number) => (value === 0 ? otherwise : value);
  return {
    platformId: needed(wire.platformId, 'policy.platform_id'),
    deployAutomatically: wire.deployAutomatically,
    allowOtherClusters: wire.allowOtherClusters,
    allowBesideServer: wire.allowBesideServer,
    stopIdleAfterMs: durationFromWire(wire.stopIdleAfter) ?? defaults.stopIdleAfterMs,
    warmWorkers: wire.warmWorkers,
    maxWorkers: or(wire.maxWorkers, defaults.maxWorkers),
    tasksPerHost: or(wire.tasksPerHost, defaults.tasksPerHost),
    tasksPerStorageDomain: or(wire.tasksPerStorageDomain, defaults.tasksPerStorageDomain),
    tasksPerPlatform: or(wire.tasksPerPlatform, defaults.tasksPerPlatform),
    automaticSettings: { ...settingsFromWire(wire.automaticSettings), name: '' },
    workerEndpoint: wire.workerEndpoint,
    workerEnrolmentEndpoint: wire.workerEnrolmentEndpoint,
    namePrefix: wire.namePrefix === '' ? defaults.namePrefix : wire.namePrefix,
  };
}

export function policyToWire(policy: FleetPolicy): WirePolicy {
  const { stopIdleAfterMs, automaticSettings, ...rest } = policy;
  return { ...rest, stopIdleAfter: durationToWire(stopIdleAfterMs), automaticSettings: settingsToWire(automaticSettings) };
}

/** Throws ARGUMENT_INVALID. */
export function settingsFromWire(wire: WorkerSettings__Output | null): WorkerSettings {
  if (!wire) return defaultSettings;
  return {
    ...wire,
    memoryBytes: bytesFromWire(wire.memoryBytes, 'settings.memory_bytes'),
    nics: wire.nics.map(({ vnicProfileId, ipv4, ipv6, routes, mtu }) => ({
      vnicProfileId,
      ipv4: addressFromWire(ipv4),
      ipv6: addressFromWire(ipv6),
      routes: routes.map(({ destination, via }) => ({ destination, via })),
      mtu,
    })),
  };
}

function settingsToWire(settings: WorkerSettings): WireSettings {
  const address = (one: WorkerNic['ipv4']): WorkerAddress => ({ ...one, method: wireMethods[one.method] });
  return {
    ...settings,
    memoryBytes: String(settings.memoryBytes),
    nics: settings.nics.map((nic) => ({ ...nic, ipv4: address(nic.ipv4), ipv6: address(nic.ipv6), routes: [...nic.routes] })),
  };
}

function addressFromWire(wire: WorkerAddress__Output | null): WorkerNic['ipv4'] {
  return { method: methods[wire?.method ?? ''] ?? 'automatic', address: wire?.address ?? '', gateway: wire?.gateway ?? '' };
}

function actionOf(wire: StartWorkerOperationRequest__Output): WorkerAction {
  if (wire.deploy) {
    const { workerId, platformId, clusterId, settings } = wire.deploy;
    return {
      kind: 'deploy',
      workerId: uuidOf(workerId, 'deploy.worker_id'),
      platformId: needed(platformId, 'deploy.platform_id'),
      clusterId: needed(clusterId, 'deploy.cluster_id'),
      settings: settingsFromWire(settings),
    };
  }
  if (wire.edit) {
    const { workerId, settings, force } = wire.edit;
    return { kind: 'edit', workerId: needed(workerId, 'edit.worker_id'), settings: settingsFromWire(settings), force };
  }
  if (wire.redeploy) return { kind: 'redeploy', ...wire.redeploy, workerId: needed(wire.redeploy.workerId, 'redeploy.worker_id') };
  if (wire.remove) return { kind: 'remove', ...wire.remove, workerId: needed(wire.remove.workerId, 'remove.worker_id') };
  if (wire.stop) return { kind: 'stop', ...wire.stop, workerId: needed(wire.stop.workerId, 'stop.worker_id') };
  if (wire.test) return { kind: 'test', workerId: needed(wire.test.workerId, 'test.worker_id') };
  if (wire.start) return { kind: 'start', workerId: needed(wire.start.workerId, 'start.worker_id') };
  if (wire.removeOrphan) {
    const { platformId, vmId } = wire.removeOrphan;
    return {
      kind: 'remove-orphan',
      platformId: needed(platformId, 'remove_orphan.platform_id'),
      vmId: needed(vmId, 'remove_orphan.vm_id'),
    };
  }
  throw CommonErrors.ARGUMENT_INVALID({ field: 'action', problem: 'is missing' });
}

function uuidOf(text: string, field: string): string {
  if (!uuid.test(text)) throw CommonErrors.ARGUMENT_INVALID({ field, problem: 'is not a UUID' });
  return text;
}

function needed(text: string, field: string): string {
  if (text === '') throw CommonErrors.ARGUMENT_INVALID({ field, problem: 'is missing' });
  return text;
}
