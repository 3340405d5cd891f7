/** What all flows on worker VMs work with. */
import { CommonErrors } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import type { Cleaner } from '../janitor/cleaner';
import type { Journal } from '../journal/journal';
import type { OperationScope } from '../operations/operation';
import type { FlowResult } from '../operations/operation-registry';
import type { Patience } from '../protection/patience';
import type { EventReporter, ReportedSeverity } from '../tokens';
import type { ConnectedWorkers } from '../workers/ports';
import type { BootDisks } from './boot-disk';
import type { WorkerEngines } from './engine-port';
import type { WorkerHost } from './host-port';
import type { WorkerVmLimits } from './timing';
import { engineMs, suspiciousMs } from './timing';
import type { VmMaker } from './vm-maker';
import { isLocalEndpoint } from './worker-starter';
import type { WorkerEndpoints, WorkerStarter } from './worker-starter';
import type { WorkerImages } from './worker-image';
import type { StoredWorker, WorkerStore } from './worker-store';
import { WorkerVmErrors } from './worker-vm-errors';

export interface FlowParts {
  readonly engines: WorkerEngines;
  readonly store: WorkerStore;
  readonly images: WorkerImages;
  readonly disks: BootDisks;
  readonly maker: VmMaker;
  readonly starter: WorkerStarter;
  readonly workers: ConnectedWorkers;
  readonly host: WorkerHost;
  readonly cleaner: Cleaner;
  readonly journal: Journal;
  readonly patience: Patience;
  readonly events: EventReporter;
  readonly limits: WorkerVmLimits;
  readonly logger: Logger;
  /** Instance id of this plug-in. */
  readonly madeBy: string;
  /** What the plug-in announces; `chosen` when an administrator wrote it, so that it is believed whatever it is. */
  readonly endpoints: () => WorkerEndpoints & { readonly chosen: boolean };
}

export function succeeded(createdId: string): FlowResult {
  return { outcome: 'success', createdId, disks: [], leftForJanitor: [] };
}

/** Throws WORKER_ENDPOINT_LOCAL: a VM elsewhere would look for us in itself. */
export function endpointsFor(parts: Pick<FlowParts, 'store' | 'endpoints'>, platformId: string): WorkerEndpoints {
  const { workerEndpoint, workerEnrolmentEndpoint } = parts.store.policy(platformId);
  if (workerEndpoint !== '') return { endpoint: workerEndpoint, enrolmentEndpoint: workerEnrolmentEndpoint };
  const { endpoint, enrolmentEndpoint, chosen } = parts.endpoints();
  if (!chosen && isLocalEndpoint(endpoint)) throw WorkerVmErrors.WORKER_ENDPOINT_LOCAL({ endpoint });
  return { endpoint, enrolmentEndpoint };
}

export function throwIfAborted(scope: OperationScope): void {
  if (scope.signal.aborted) throw CommonErrors.CANCELLED({ what: `operation ${scope.header.operationId}` });
}

/** Removes what an operation made and did not finish. Never rejects: what it cannot do is the janitor's. */
export async function cleanUp(parts: Pick<FlowParts, 'cleaner' | 'logger'>, operationId: string): Promise<void> {
  try {
    await parts.cleaner.settle(operationId, { deadlineMs: engineMs });
  } catch (error) {
    // The operation's own failure is what counts.
    parts.logger.warn("clean-up after a worker operation did not end; it is the janitor's", { operationId, error });
  }
}

export function report(
  parts: Pick<FlowParts, 'events'>,
  severity: ReportedSeverity,
  code: string,
  message: string,
  worker: Pick<StoredWorker, 'workerId' | 'platformId' | 'clusterId'>,
): void {
  const references = { worker_id: worker.workerId, platform_id: worker.platformId, cluster_id: worker.clusterId };
  parts.events.report({ severity, code, message, references });
}

/**
 * True when the worker has a stream, or has one again soon: it dials again when its stream was cut, or this process was started again. Then nobody needs
 * to start its VM, in which tasks may go on.
 */
export async function isThere({ workers, patience }: FlowParts, scope: OperationScope, workerId: string): Promise<boolean> {
  const hasStream = () => workers.awayMs(workerId) === 0;
  const missedMs = () => workers.awayMs(workerId) ?? workers.openMs;
  while (!hasStream() && missedMs() < suspiciousMs) await patience.clock.sleep(500, scope.signal);
  return hasStream();
}

/** Waits until the worker has no task any more; with `force` its tasks are given up at once and tried elsewhere. */
export async function untilIdle(parts: FlowParts, scope: OperationScope, workerId: string, force: boolean): Promise<void> {
  if (force) {
    parts.workers.abandon(workerId);
    return;
  }
  while (parts.workers.usedSlots(workerId) > 0) {
    scope.waiting('worker-tasks');
    await parts.patience.clock.sleep(2000, scope.signal);
  }
  scope.waiting('');
}
