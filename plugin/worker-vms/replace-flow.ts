/**
 * A new VM for a worker: from the present image, or with other settings. Never in place. The old VM is parked, and goes when the new one has
 * passed its test; until then the worker can go back to it. The worker's id, and with it the identity of its certificate, stays.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import { failureMessage } from '../../common/rpc/failure-message';
import type { OperationScope } from '../operations/operation';
import type { FlowResult } from '../operations/operation-registry';
import { planDeployment } from './deployment-plan';
import type { DeploymentPlan } from './deployment-plan';
import { cleanUp, report, succeeded } from './flow-parts';
import type { FlowParts } from './flow-parts';
import { checkBefore, makeTestedVm } from './making';
import { becomeReady, park } from './power-flows';
import { backOff, engineMs } from './timing';
import { removeWorkerVm } from './vm-power';
import { WorkerVmErrors, workerEvents } from './worker-vm-errors';
import type { StoredWorker } from './worker-store';

export interface ReplaceOrder {
  readonly plan: DeploymentPlan;
  readonly force: boolean;
  /** Only when it has nothing to do: taken back when work comes first. */
  readonly onlyIfIdle?: boolean;
  /** For people: "its settings were changed", "another image is installed". */
  readonly why: string;
}

/** The plan of a worker's next VM; throws what planDeployment throws. */
export async function planReplacement(
  parts: Pick<FlowParts, 'engines' | 'store'>,
  worker: StoredWorker,
  settings: StoredWorker['settings'],
  takenNames: ReadonlySet<string>,
  signal?: AbortSignal,
): Promise<DeploymentPlan> {
  const { platformId, clusterId, vmId, name } = worker;
  const policy = parts.store.policy(platformId);
  const order = { clusterId, settings, policy, takenNames, replaced: { vmId, name } };
  return await planDeployment(parts.engines.of(platformId), order, signal);
}

export async function replace(parts: FlowParts, scope: OperationScope, workerId: string, order: ReplaceOrder): Promise<FlowResult> {
  const { store, journal } = parts;
  const worker = store.get(workerId);
  const { plan } = order;
  const { platformId, requestedBy } = worker;
  const vmName = `${plan.name}-${scope.header.operationId.slice(0, 8)}`;
  const making = { workerId, platformId, plan, vmName, requestedBy };
  // A cluster without room must not cost a working worker.
  await checkBefore(parts, scope, making);
  if (!(await park(parts, scope, workerId, order))) return succeeded(workerId);
  try {
    const made = await makeTestedVm(parts, scope, making);
    await journal.kept(made.diskEntry.entryId);
    const now = store.get(workerId);
    await store.put({
      ...now,
      vmId: made.vmId,
      formerVmIds: [...now.formerVmIds, now.vmId],
      name: plan.name,
      settings: plan.settings,
      clusterName: plan.cluster.name,
      imageVersion: made.image.version,
      selfTest: made.selfTest ?? null,
      phase: 'ready',
    });
    await journal.kept(made.vmEntry.entryId);
    await becomeReady(parts, workerId);
    report(parts, 'info', workerEvents.replaced, `Worker "${plan.name}" has a new VM, since ${order.why}.`, worker);
  } catch (thrown) {
    if (store.get(workerId).vmId === worker.vmId) await goBack(parts, scope, worker, thrown);
    throw thrown;
  }
  await finishReplacement(parts, scope, workerId);
  return succeeded(workerId);
}

/** Removes the VMs that a worker had before and gives the present one its name. Done again until it is done. */
export async function finishReplacement(parts: FlowParts, scope: OperationScope, workerId: string): Promise<FlowResult> {
  const { store, engines, patience } = parts;
  const { platformId, formerVmIds, vmId, name } = store.get(workerId);
  const engine = engines.of(platformId);
  scope.phase('cleaning');
  for (const former of formerVmIds) {
    if (!(await removeWorkerVm(engine, patience, former, { signal: scope.signal, deadlineMs: engineMs }))) {
      throw WorkerVmErrors.WORKER_VM_NOT_REMOVED({ name });
    }
  }
  const vm = await engine.vms.find(vmId, { signal: scope.signal });
  if (vm && vm.name !== name) {
    await patience.whileConflict({ signal: scope.signal, deadlineMs: engineMs }, () =>
      engine.vms.update(vmId, { name }, { signal: scope.signal }),
    );
  }
  await store.update(workerId, { formerVmIds: store.get(workerId).formerVmIds.filter((id) => !formerVmIds.includes(id)) });
  return succeeded(workerId);
}

/** The old VM is as it was, but down; it is started when work comes. */
async function goBack(parts: FlowParts, scope: OperationScope, worker: StoredWorker, thrown: unknown): Promise<void> {
  const { store, workers, patience } = parts;
  const { workerId, name } = worker;
  scope.phase('cleaning');
  workers.abandon(workerId);
  await cleanUp(parts, scope.header.operationId);
  const error = toTidemarkError(thrown, `replacing worker ${name}`);
  const stopped = ['CANCELLED', 'PLUGIN_STOPPING'].includes(error.code);
  const failures = stopped ? worker.failures : worker.failures + 1;
  await store.update(workerId, {
    phase: 'stopped',
    failures,
    retryAt: patience.clock.now() + (stopped ? 0 : backOff(failures)),
    problem: stopped ? worker.problem : failureMessage(error),
  });
  if (stopped || worker.problem?.code === error.code) return;
  const message = `Worker "${name}" could not be given a new VM, and keeps its old one: ${error.message}`;
  report(parts, 'error', workerEvents.replacementFailed, message, worker);
}
