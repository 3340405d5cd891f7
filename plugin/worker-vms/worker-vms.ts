/**
 * The use cases behind WorkerFleetService. Owns what is checked before an action on a worker is accepted; the flows do the work, the keeper
 * looks after what is there. Must not know tasks, backups or restores.
 */
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import type { WorkerView } from '../workers/member';
import { WorkerErrors } from '../workers/worker-errors';
import { OperationErrors } from '../operations/operation-errors';
import { planDeployment } from './deployment-plan';
import { listOrphans } from './orphans';
import type { OrphanWorker } from './orphans';
import { checkPolicy } from './policy';
import type { FleetPolicy } from './policy';
import { planReplacement } from './replace-flow';
import { checkSettings } from './settings';
import type { WorkerImage } from './worker-image';
import { WorkerKeeper } from './worker-keeper';
import { listWorkers } from './worker-list';
import type { ListedWorker } from './worker-list';
import type { WorkerOperations } from './worker-operations';
import type { StoredWorker } from './worker-store';
import { OwnWorkerSupply } from './worker-supply';
import { WorkerVmErrors } from './worker-vm-errors';

export type WorkerAction =
  | {
      readonly kind: 'deploy';
      readonly workerId: string;
      readonly platformId: string;
      readonly clusterId: string;
      readonly settings: unknown;
    }
  | { readonly kind: 'edit'; readonly workerId: string; readonly settings: unknown; readonly force: boolean }
  | { readonly kind: 'redeploy' | 'remove' | 'stop'; readonly workerId: string; readonly force: boolean }
  | { readonly kind: 'test' | 'start'; readonly workerId: string }
  | { readonly kind: 'remove-orphan'; readonly platformId: string; readonly vmId: string };

export interface WorkerOperationRequest {
  readonly operationId: string;
  readonly requestedBy: string;
  readonly action: WorkerAction;
  readonly fingerprint: string;
}

/** VMs asked for in one search by id. */
const idsPerSearch = 40;

export class WorkerVms {
  readonly supply: OwnWorkerSupply;
  readonly keeper: WorkerKeeper;

  constructor(
    private readonly operations: WorkerOperations,
    private readonly seen: () => readonly WorkerView[],
  ) {
    this.supply = new OwnWorkerSupply(operations);
    this.keeper = new WorkerKeeper(operations, this.supply);
  }

  /** The host does not take the token that somebody wanted to enrol with. */
  tokenRefused(token: string): void {
    this.operations.parts.starter.tokenRefused(token);
  }

  list(): ListedWorker[] {
    return listWorkers(this.operations, this.seen());
  }

  orphans(signal?: AbortSignal): Promise<OrphanWorker[]> {
    return listOrphans(this.operations.parts, signal);
  }

  /** Throws WORKER_IMAGE_MISSING, WORKER_IMAGE_DAMAGED. */
  image(): Promise<WorkerImage> {
    return this.operations.parts.images.find();
  }

  /** See WorkerFleetService.StartWorkerOperation; `signal` ends the checks, not the operation. */
  async startOperation(request: WorkerOperationRequest, signal?: AbortSignal): Promise<void> {
    const { operationId, fingerprint, action } = request;
    const known = this.operations.find(operationId);
    if (known) {
      // Answered before anything is checked: by now the name is taken, by the operation itself.
      if (known.header.fingerprint !== fingerprint) throw CommonErrors.REQUEST_ID_REUSED({ requestId: operationId });
      return;
    }
    await this.#begin(request, action, signal);
  }

  /** Throws WORKER_NOT_FOUND. */
  async drain(workerId: string): Promise<void> {
    await this.#setDrained(workerId, true);
  }

  /** Throws WORKER_NOT_FOUND. */
  async resume(workerId: string): Promise<void> {
    await this.#setDrained(workerId, false);
  }

  /** Throws PLATFORM_NOT_FOUND. */
  policy(platformId: string): FleetPolicy {
    this.operations.parts.engines.of(platformId);
    return this.operations.parts.store.policy(platformId);
  }

  /** Throws PLATFORM_NOT_FOUND, WORKER_SETTINGS_INVALID. */
  async putPolicy(policy: FleetPolicy): Promise<void> {
    this.operations.parts.engines.of(policy.platformId);
    await this.operations.parts.store.putPolicy(checkPolicy(policy));
  }

  /** Starts what work at that time will need. Answers at once. Throws PLATFORM_NOT_FOUND. */
  prepare(platformId: string, vmIds: readonly string[], neededAt: number): void {
    const { parts } = this.operations;
    parts.engines.of(platformId);
    void this.#clustersOf(platformId, vmIds).then(
      (clusterIds) => this.keeper.expect(platformId, clusterIds, neededAt),
      (thrown: unknown) => {
        const { code, message } = toTidemarkError(thrown, 'preparing workers');
        parts.logger.warn('workers could not be prepared; they are started when the work comes', { platformId, code, message });
      },
    );
  }

  /** It was one of ours and is gone for good. */
  isRemoved(workerId: string): boolean {
    return this.operations.parts.store.isRemoved(workerId);
  }

  /** Why a platform cannot be forgotten: it has workers. */
  platformInUse(platformId: string): string | undefined {
    const { store } = this.operations.parts;
    const names = [
      ...store.workers().flatMap((worker) => (worker.platformId === platformId ? [worker.name] : [])),
      ...this.operations.pending.names(platformId),
    ];
    if (names.length === 0) return undefined;
    return `worker VMs are deployed there (${names.slice(0, 5).join(', ')}${names.length > 5 ? ' …' : ''}); remove them with "tidemark worker remove" first`;
  }

  async #begin(request: WorkerOperationRequest, action: WorkerAction, signal?: AbortSignal): Promise<void> {
    const { operations } = this;
    const launch = { operationId: request.operationId, fingerprint: request.fingerprint };
    switch (action.kind) {
      case 'deploy':
        return await this.#deploy(request, action, signal);
      case 'edit': {
        const worker = this.#deployed(action.workerId);
        const chosen = checkSettings(action.settings);
        const settings = chosen.name === '' ? { ...chosen, name: worker.name } : chosen;
        return await this.#replace(worker, settings, { force: action.force, why: 'its settings were changed' }, launch, signal);
      }
      case 'redeploy': {
        const worker = this.#deployed(action.workerId);
        const settings = { ...worker.settings, name: worker.name };
        const why = 'an administrator wanted it';
        return await this.#replace(worker, settings, { force: action.force, why }, launch, signal);
      }
      case 'remove':
        await operations.remove(this.#deployed(action.workerId).workerId, action.force, launch);
        return;
      case 'stop':
        await operations.stop(this.#deployed(action.workerId).workerId, { force: action.force }, launch);
        return;
      case 'start':
        await operations.start(this.#deployed(action.workerId).workerId, launch);
        return;
      case 'test':
        if (!operations.parts.store.find(action.workerId)) this.#seenNow(action.workerId);
        await operations.test(action.workerId, launch);
        return;
      case 'remove-orphan':
        operations.parts.engines.of(action.platformId);
        await operations.removeOrphan(action.platformId, action.vmId, launch);
    }
  }

  async #deploy(request: WorkerOperationRequest, action: WorkerAction & { kind: 'deploy' }, signal?: AbortSignal): Promise<void> {
    const { operations } = this;
    const { engines, store, images } = operations.parts;
    const { workerId, platformId, clusterId } = action;
    const engine = engines.of(platformId);
    const settings = checkSettings(action.settings);
    if (store.find(workerId)) throw CommonErrors.ARGUMENT_INVALID({ field: 'deploy.worker_id', problem: 'is the id of another worker' });
    this.#refuseBusy(workerId);
    await images.find();
    const takenNames = operations.pending.names(platformId);
    const plan = await planDeployment(engine, { clusterId, settings, policy: store.policy(platformId), takenNames }, signal);
    const { maxWorkers } = store.policy(platformId);
    const coming = operations.pending.list().filter((one) => one.platformId === platformId && one.plan.cluster.id === clusterId);
    if (store.inCluster(platformId, clusterId).length + coming.length >= maxWorkers) {
      throw WorkerVmErrors.WORKER_LIMIT_REACHED({ cluster: plan.cluster.name, limit: maxWorkers });
    }
    const requestedBy = request.requestedBy === '' ? 'an administrator' : request.requestedBy;
    await operations.deploy({ workerId, platformId, requestedBy, plan }, request);
  }

  async #replace(
    worker: StoredWorker,
    settings: StoredWorker['settings'],
    how: { readonly force: boolean; readonly why: string },
    launch: { readonly operationId: string; readonly fingerprint: string },
    signal?: AbortSignal,
  ): Promise<void> {
    const { operations } = this;
    this.#refuseBusy(worker.workerId);
    await operations.parts.images.find();
    const plan = await planReplacement(operations.parts, worker, settings, operations.pending.names(worker.platformId), signal);
    await operations.replace(worker.workerId, { plan, ...how }, launch);
  }

  /** The registry has the last word; asked here too, so that nobody waits for a plan in vain. */
  #refuseBusy(workerId: string): void {
    const operationId = this.operations.ownerOf(workerId);
    if (operationId !== undefined) throw OperationErrors.WORKER_BUSY({ workerId, operationId }, { retryDelayMs: 15_000 });
  }

  /** Throws WORKER_NOT_FOUND, WORKER_NOT_DEPLOYED. */
  #deployed(workerId: string): StoredWorker {
    const worker = this.operations.parts.store.find(workerId);
    if (worker) return worker;
    if (this.operations.pending.has(workerId)) this.#refuseBusy(workerId);
    this.#seenNow(workerId);
    throw WorkerVmErrors.WORKER_NOT_DEPLOYED({ workerId });
  }

  /** Throws WORKER_NOT_FOUND. */
  #seenNow(workerId: string): void {
    if (!this.seen().some((view) => view.workerId === workerId)) throw WorkerErrors.WORKER_NOT_FOUND({ workerId });
  }

  async #setDrained(workerId: string, drained: boolean): Promise<void> {
    const { store, workers } = this.operations.parts;
    const change = () => (drained ? workers.drain(workerId) : workers.resume(workerId));
    if (!store.find(workerId)) return change();
    await store.update(workerId, { drained });
    if (workers.awayMs(workerId) !== undefined) change();
  }

  async #clustersOf(platformId: string, vmIds: readonly string[]): Promise<Set<string>> {
    const { vms } = this.operations.parts.engines.of(platformId);
    const clusterIds = new Set<string>();
    for (let from = 0; from < vmIds.length; from += idsPerSearch) {
      const ids = vmIds.slice(from, from + idsPerSearch);
      const search = ids.map((id) => `id=${id}`).join(' or ');
      for await (const page of vms.pages({ search })) for (const vm of page) if (ids.includes(vm.id)) clusterIds.add(vm.clusterId);
    }
    return clusterIds;
  }
}
