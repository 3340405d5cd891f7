/** Start, stop and test of a worker that is deployed. A worker whose VM is gone is made again from its settings. */
import { toTidemarkError } from '../../common/errors/common-errors';
import { failureMessage } from '../../common/rpc/failure-message';
import type { OperationScope } from '../operations/operation';
import type { FlowResult } from '../operations/operation-registry';
import { checkMemory, planDeployment } from './deployment-plan';
import { cleanUp, endpointsFor, isThere, report, succeeded, throwIfAborted, untilIdle } from './flow-parts';
import type { FlowParts } from './flow-parts';
import { makeTestedVm } from './making';
import { sizeOf } from './settings';
import { backOff, engineMs, mostFailures } from './timing';
import { powerOff, shutDown } from './vm-power';
import { WorkerVmErrors, workerEvents } from './worker-vm-errors';
import type { StoredWorker } from './worker-store';

/** Whoever is away comes back by himself: that is no fault of the worker's. */
const notItsFault = [
  'ENGINE_UNAVAILABLE',
  'ENGINE_ANSWER_INVALID',
  'ENGINE_INTERNAL_FAILURE',
  'PEER_UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'HOST_UNREACHABLE',
  'CANCELLED',
  'PLUGIN_STOPPING',
];

/** From whatever state to `ready`. After a failure the VM is down, the worker `failed` (or `lost`, while there are tries left), and says why. */
export async function bringUp(parts: FlowParts, scope: OperationScope, workerId: string): Promise<FlowResult> {
  const { store, engines, workers } = parts;
  const before = store.get(workerId);
  const wasLost = before.phase === 'lost';
  const engine = engines.of(before.platformId);
  try {
    scope.phase('preparing');
    workers.abandon(workerId);
    const vm = await engine.vms.find(before.vmId, { signal: scope.signal });
    if (!vm) {
      await recreate(parts, scope, before);
      return succeeded(workerId);
    }
    const off = await powerOff(engine, parts.patience, before.vmId, { signal: scope.signal, deadlineMs: engineMs });
    if (off !== 'down') throw WorkerVmErrors.WORKER_VM_NOT_STOPPED({ name: before.name, status: off });
    const { settings, clusterId, clusterName, platformId, name, vmId } = before;
    const endpoints = endpointsFor(parts, platformId);
    const neededBytes = sizeOf(settings).memoryBytes;
    const hostIds = await checkMemory(engine, { id: clusterId, name: clusterName }, settings, neededBytes, scope.signal);
    if (!wasLost) await store.update(workerId, { phase: 'starting' });
    scope.phase('starting');
    const order = { workerId, name, platformId, clusterId, settings, vmId, hostIds, endpoints };
    const { selfTest, failure } = await parts.starter.start(engine, scope, order);
    await store.update(workerId, { selfTest: selfTest ?? null });
    if (failure) throw failure;
    throwIfAborted(scope);
    await becomeReady(parts, workerId);
    if (wasLost) report(parts, 'info', workerEvents.back, `Worker "${name}" runs again.`, before);
    return succeeded(workerId);
  } catch (thrown) {
    await failedToRun(parts, scope, before, thrown);
    throw thrown;
  }
}

/** The VM is gone: another one from the same settings, under the same id. */
async function recreate(parts: FlowParts, scope: OperationScope, worker: StoredWorker): Promise<void> {
  const { store, engines, journal } = parts;
  const { workerId, platformId, clusterId, name, vmId, requestedBy } = worker;
  const engine = engines.of(platformId);
  const settings = { ...worker.settings, name };
  const policy = store.policy(platformId);
  const plan = await planDeployment(engine, { clusterId, settings, policy, takenNames: new Set(), replaced: { vmId, name } }, scope.signal);
  try {
    const made = await makeTestedVm(parts, scope, { workerId, platformId, plan, requestedBy, vmName: name });
    await journal.kept(made.diskEntry.entryId);
    await store.update(workerId, { vmId: made.vmId, imageVersion: made.image.version, selfTest: made.selfTest ?? null, ...calm });
    await journal.kept(made.vmEntry.entryId);
    applyDrain(parts, workerId);
    report(parts, 'warning', workerEvents.recreated, `The VM of worker "${name}" was gone; it was made again from its settings.`, worker);
  } catch (thrown) {
    scope.phase('cleaning');
    parts.workers.abandon(workerId);
    await cleanUp(parts, scope.header.operationId);
    throw thrown;
  }
}

/** Takes no new tasks, waits for the running ones, shuts down. Taken back by a cancel while it waits. */
export async function stop(
  parts: FlowParts,
  scope: OperationScope,
  workerId: string,
  options: { readonly force: boolean; readonly onlyIfIdle?: boolean },
): Promise<FlowResult> {
  await park(parts, scope, workerId, options);
  return succeeded(workerId);
}

/** As {@link stop}; false when `onlyIfIdle` and work came in between. */
export async function park(
  parts: FlowParts,
  scope: OperationScope,
  workerId: string,
  { force, onlyIfIdle = false }: { readonly force: boolean; readonly onlyIfIdle?: boolean },
): Promise<boolean> {
  const { store, engines, workers, patience, limits } = parts;
  const before = store.get(workerId);
  if (before.phase === 'stopped') return true;
  // From here on the dispatcher gives it nothing.
  await store.update(workerId, { phase: 'stopping' });
  try {
    if (workers.usedSlots(workerId) > 0 && onlyIfIdle) {
      await store.update(workerId, { phase: 'ready' });
      return false;
    }
    await untilIdle(parts, scope, workerId, force);
  } catch (thrown) {
    await store.update(workerId, { phase: before.phase });
    throw thrown;
  }
  scope.phase('cleaning');
  const engine = engines.of(before.platformId);
  const graceMs = force ? 0 : limits.shutdownMs;
  const status = await shutDown(engine, patience, before.vmId, { signal: scope.signal, graceMs, deadlineMs: engineMs });
  workers.abandon(workerId);
  if (status !== 'down' && status !== 'gone') throw WorkerVmErrors.WORKER_VM_NOT_STOPPED({ name: before.name, status });
  await store.update(workerId, { phase: 'stopped' });
  return true;
}

/** Starts the VM when it is down, and leaves the matrix in the worker's record. A cell that failed fails the operation, not the worker. */
export async function test(parts: FlowParts, scope: OperationScope, workerId: string): Promise<FlowResult> {
  const { store, engines, starter } = parts;
  const worker = store.get(workerId);
  if (worker.phase !== 'ready' || !(await isThere(parts, scope, workerId))) return await bringUp(parts, scope, workerId);
  scope.phase('starting');
  const { selfTest, failure } = await starter.test(engines.of(worker.platformId), scope.signal, worker);
  await store.update(workerId, { selfTest: selfTest ?? null, problem: failure ? failureMessage(failure) : null });
  if (failure) throw failure;
  return succeeded(workerId);
}

/** A start or stop that a kill of the plug-in cut off: its VM is shut down, the worker stopped. */
export async function settleInterrupted(parts: FlowParts, scope: OperationScope, workerId: string): Promise<FlowResult> {
  const { store, engines, patience, workers, limits } = parts;
  const worker = store.get(workerId);
  scope.phase('cleaning');
  const options = { signal: scope.signal, graceMs: Math.min(30_000, limits.shutdownMs), deadlineMs: engineMs };
  const status = await shutDown(engines.of(worker.platformId), patience, worker.vmId, options);
  workers.abandon(workerId);
  if (status !== 'down' && status !== 'gone') throw WorkerVmErrors.WORKER_VM_NOT_STOPPED({ name: worker.name, status });
  await store.update(workerId, { phase: 'stopped' });
  return succeeded(workerId);
}

const calm = { phase: 'ready', failures: 0, retryAt: 0, problem: null } as const;

export async function becomeReady(parts: FlowParts, workerId: string): Promise<void> {
  await parts.store.update(workerId, calm);
  applyDrain(parts, workerId);
}

/** What an administrator asked of the worker holds for its next life too. */
export function applyDrain({ store, workers }: FlowParts, workerId: string): void {
  if (workers.awayMs(workerId) === undefined) return;
  if (store.find(workerId)?.drained === true) workers.drain(workerId);
  else workers.resume(workerId);
}

async function failedToRun(parts: FlowParts, scope: OperationScope, before: StoredWorker, thrown: unknown): Promise<void> {
  const { store, engines, patience, workers, limits, logger } = parts;
  const { workerId, platformId, name } = before;
  const error = toTidemarkError(thrown, `starting worker ${name}`);
  scope.phase('cleaning');
  workers.abandon(workerId);
  let isDown = false;
  try {
    // Without the operation's signal: a cancel must not leave the VM running.
    const vmId = store.find(workerId)?.vmId ?? before.vmId;
    const options = { graceMs: Math.min(30_000, limits.shutdownMs), deadlineMs: 120_000 };
    isDown = ['down', 'gone'].includes(await shutDown(engines.of(platformId), patience, vmId, options));
  } catch (problem) {
    logger.warn('a worker VM that did not come up could not be stopped; it is tried again', { workerId, error: problem });
  }
  if (!store.find(workerId)) return;
  const now = patience.clock.now();
  // One that may still run is shut down by whoever looks after workers; it is not started before that.
  const notRunning = (phase: 'stopped' | 'failed') => (isDown ? phase : 'stopping');
  if (notItsFault.includes(error.code)) {
    await store.update(workerId, { phase: before.phase === 'lost' ? 'lost' : notRunning('stopped'), retryAt: now + backOff(1) });
    return;
  }
  const failures = before.failures + 1;
  const trying = before.phase === 'lost' && failures < mostFailures;
  await store.update(workerId, {
    phase: trying ? 'lost' : notRunning('failed'),
    failures,
    retryAt: now + backOff(failures),
    problem: failureMessage(error),
  });
  if (before.problem?.code === error.code && !(before.phase === 'lost' && !trying)) return;
  const [code, words] =
    trying || before.phase !== 'lost'
      ? [workerEvents.startFailed, 'could not be started']
      : [workerEvents.givenUp, 'was given up until it is needed'];
  report(parts, trying ? 'warning' : 'error', code, `Worker "${name}" ${words}: ${error.message}`, before);
}
