import { isTidemarkError, hasCode } from '../../common/errors/tidemark-error';
import { toTidemarkError } from '../../common/errors/common-errors';
import type { OperationScope } from '../operations/operation';
import type { FlowResult } from '../operations/operation-registry';
import type { DeploymentPlan } from './deployment-plan';
import { cleanUp, report, succeeded } from './flow-parts';
import type { FlowParts } from './flow-parts';
import { makeTestedVm } from './making';
import { workerEvents } from './worker-vm-errors';

export interface DeployOrder {
  readonly workerId: string;
  readonly platformId: string;
  readonly requestedBy: string;
  readonly plan: DeploymentPlan;
  /** The same failure was told before: no event. */
  readonly toldBefore?: (code: string) => boolean;
}

/** Workers that are being made for the first time: they are listed, and their names are taken. */
export class PendingDeployments {
  readonly #pending = new Map<string, DeployOrder>();

  list(): DeployOrder[] {
    return [...this.#pending.values()];
  }

  has(workerId: string): boolean {
    return this.#pending.has(workerId);
  }

  add(order: DeployOrder): () => void {
    this.#pending.set(order.workerId, order);
    return () => this.#pending.delete(order.workerId);
  }

  /** Names of workers on their way on this platform. */
  names(platformId: string): Set<string> {
    return new Set(this.list().flatMap((one) => (one.platformId === platformId ? [one.plan.name] : [])));
  }
}

/** A new worker: image, VM, start, enrolment, self-test. It is ours once it is in the store; everything before is undone by a failure. */
export async function deploy(
  parts: FlowParts,
  pending: PendingDeployments,
  scope: OperationScope,
  order: DeployOrder,
): Promise<FlowResult> {
  const { workerId, platformId, requestedBy, plan } = order;
  const { journal, store, patience } = parts;
  const settled = pending.add(order);
  try {
    const made = await makeTestedVm(parts, scope, { workerId, platformId, plan, requestedBy, vmName: plan.name });
    // The disk goes with the VM from here on; with the VM's entry still open a crash before the next line removes both.
    await journal.kept(made.diskEntry.entryId);
    await store.put({
      ...{ workerId, platformId, requestedBy, vmId: made.vmId },
      clusterId: plan.cluster.id,
      clusterName: plan.cluster.name,
      dataCenterId: plan.dataCenterId,
      name: plan.name,
      settings: plan.settings,
      createdAt: patience.clock.now(),
      imageVersion: made.image.version,
      phase: 'ready',
      drained: false,
      failures: 0,
      retryAt: 0,
      problem: null,
      selfTest: made.selfTest ?? null,
      formerVmIds: [],
    });
    await journal.kept(made.vmEntry.entryId);
    report(parts, 'info', workerEvents.deployed, `Worker "${plan.name}" was deployed into cluster ${plan.cluster.name}.`, {
      ...{ workerId, platformId },
      clusterId: plan.cluster.id,
    });
    return succeeded(workerId);
  } catch (thrown) {
    if (store.find(workerId)) throw thrown;
    scope.phase('cleaning');
    await undo(parts, scope, order);
    tell(parts, order, thrown);
    throw thrown;
  } finally {
    settled();
  }
}

async function undo(parts: FlowParts, scope: OperationScope, { workerId }: DeployOrder): Promise<void> {
  const { host, workers, logger } = parts;
  workers.abandon(workerId);
  await cleanUp(parts, scope.header.operationId);
  workers.forget(workerId);
  try {
    await host.revokeWorker(workerId);
  } catch (error) {
    // Its VM is gone, and its certificate runs out within a week.
    logger.warn('the certificate of a worker that was not deployed could not be revoked', { workerId, error });
  }
}

function tell(parts: FlowParts, order: DeployOrder, thrown: unknown): void {
  if (hasCode(thrown, 'CANCELLED', 'PLUGIN_STOPPING')) return;
  const error = isTidemarkError(thrown) ? thrown : toTidemarkError(thrown, 'deploying a worker');
  if (order.toldBefore?.(error.code) === true) return;
  const { workerId, platformId, plan } = order;
  report(
    parts,
    'error',
    workerEvents.deploymentFailed,
    `Worker "${plan.name}" could not be deployed into cluster ${plan.cluster.name}, and what was made is removed: ${error.message}`,
    { workerId, platformId, clusterId: plan.cluster.id },
  );
}
