import type { OperationScope } from '../operations/operation';
import type { FlowResult } from '../operations/operation-registry';
import { report, succeeded, untilIdle } from './flow-parts';
import type { FlowParts } from './flow-parts';
import { findOrphan } from './orphans';
import { engineMs } from './timing';
import { removeWorkerVm } from './vm-power';
import { WorkerVmErrors, workerEvents } from './worker-vm-errors';

/** Drains, removes the VM, withdraws the certificate and forgets the worker. Goes on after a crash. */
export async function remove(parts: FlowParts, scope: OperationScope, workerId: string, force: boolean): Promise<FlowResult> {
  const { store, engines, patience, host, workers, disks, logger } = parts;
  const worker = store.get(workerId);
  const { platformId, name } = worker;
  if (worker.phase !== 'removing') {
    await store.update(workerId, { phase: 'stopping' });
    try {
      await untilIdle(parts, scope, workerId, force);
    } catch (thrown) {
      await store.update(workerId, { phase: worker.phase });
      throw thrown;
    }
    await store.update(workerId, { phase: 'removing' });
  }
  scope.phase('cleaning');
  const engine = engines.of(platformId);
  workers.abandon(workerId);
  for (const vmId of [worker.vmId, ...worker.formerVmIds]) {
    if (!(await removeWorkerVm(engine, patience, vmId, { signal: scope.signal, deadlineMs: engineMs }))) {
      throw WorkerVmErrors.WORKER_VM_NOT_REMOVED({ name });
    }
  }
  await host.revokeWorker(workerId);
  workers.forget(workerId);
  await store.remove(workerId);
  report(parts, 'info', workerEvents.removed, `Worker "${name}" was removed.`, worker);
  if (!store.workers().some((one) => one.platformId === platformId)) {
    try {
      await disks.removeAll(engine, scope.signal);
    } catch (error) {
      // A later tidying finds it; the worker itself is gone.
      logger.info('the worker image could not be removed from the storage yet', { platformId, error });
    }
  }
  return succeeded(workerId);
}

/** A worker VM that is none of ours, because an administrator says so. */
export async function removeOrphan(parts: FlowParts, scope: OperationScope, platformId: string, vmId: string): Promise<FlowResult> {
  const engine = parts.engines.of(platformId);
  scope.phase('cleaning');
  const orphan = await findOrphan(parts, platformId, vmId, scope.signal);
  if (!(await removeWorkerVm(engine, parts.patience, vmId, { signal: scope.signal, deadlineMs: engineMs }))) {
    throw WorkerVmErrors.WORKER_VM_NOT_REMOVED({ name: orphan.name });
  }
  return succeeded(vmId);
}
