/** The actions on workers as operations: started, watched and cancelled like backups; one per worker at a time. */
import { randomUUID } from 'node:crypto';
import type { Operation, OperationScope } from '../operations/operation';
import type { FlowResult, OperationRegistry } from '../operations/operation-registry';
import { moverTargets, problemsOf, selfTestTargets } from './self-test-targets';
import type { SelfTestTarget } from '../../proto/gen/tidemark/worker/v1/SelfTestTarget';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import { PendingDeployments, deploy } from './deploy-flow';
import type { DeployOrder } from './deploy-flow';
import { isThere, succeeded } from './flow-parts';
import type { FlowParts } from './flow-parts';
import { bringUp, settleInterrupted, stop, test } from './power-flows';
import { remove, removeOrphan } from './removal-flows';
import { finishReplacement, replace } from './replace-flow';
import type { ReplaceOrder } from './replace-flow';
import { WorkerVmErrors } from './worker-vm-errors';

/** What an operation is for, for who lists workers while it runs. */
export type WorkerActivity = 'deploying' | 'starting' | 'stopping' | 'testing' | 'removing' | 'settling';

export interface Launch {
  /** Chosen by the host; a new one for what the plug-in does by itself. */
  readonly operationId?: string;
  readonly fingerprint?: string;
}

export class WorkerOperations {
  readonly pending = new PendingDeployments();
  /** Matrices of workers beside the server; those of VMs are in the store. */
  readonly selfTests = new Map<string, SelfTest__Output>();
  /** Hosts that worker VMs run on, by VM, as they were seen last. */
  readonly hostIds = new Map<string, string>();
  readonly #activities = new Map<string, WorkerActivity>();

  constructor(
    readonly parts: FlowParts,
    private readonly registry: OperationRegistry,
  ) {}

  /** The operation that has the worker now. */
  ownerOf(workerId: string): string | undefined {
    return this.registry.ownerOfWorker(workerId);
  }

  activityOf(workerId: string): WorkerActivity | undefined {
    return this.#activities.get(workerId);
  }

  /** An operation of that id that runs or ended lately. */
  find(operationId: string): Operation | undefined {
    return this.registry.find(operationId);
  }

  deploy(order: DeployOrder, launch: Launch = {}): Promise<Operation> {
    const { workerId, platformId } = order;
    return this.#start('deploying', workerId, platformId, launch, (scope) => deploy(this.parts, this.pending, scope, order));
  }

  bringUp(workerId: string, launch: Launch = {}): Promise<Operation> {
    return this.#onWorker('starting', workerId, launch, (scope) => bringUp(this.parts, scope, workerId));
  }

  /** As {@link bringUp}; a worker that is ready is left alone. */
  start(workerId: string, launch: Launch = {}): Promise<Operation> {
    return this.#onWorker('starting', workerId, launch, async (scope) => {
      const runs = this.parts.store.get(workerId).phase === 'ready' && (await isThere(this.parts, scope, workerId));
      return runs ? succeeded(workerId) : await bringUp(this.parts, scope, workerId);
    });
  }

  stop(workerId: string, options: { readonly force: boolean; readonly onlyIfIdle?: boolean }, launch: Launch = {}): Promise<Operation> {
    return this.#onWorker('stopping', workerId, launch, (scope) => stop(this.parts, scope, workerId, options));
  }

  test(workerId: string, launch: Launch = {}): Promise<Operation> {
    if (!this.parts.store.find(workerId)) {
      return this.#start('testing', workerId, '', launch, (scope) => this.#testBesideServer(scope, workerId));
    }
    return this.#onWorker('testing', workerId, launch, (scope) => test(this.parts, scope, workerId));
  }

  replace(workerId: string, order: ReplaceOrder, launch: Launch = {}): Promise<Operation> {
    return this.#onWorker('deploying', workerId, launch, (scope) => replace(this.parts, scope, workerId, order));
  }

  finishReplacement(workerId: string): Promise<Operation> {
    return this.#onWorker('settling', workerId, {}, (scope) => finishReplacement(this.parts, scope, workerId));
  }

  settleInterrupted(workerId: string): Promise<Operation> {
    return this.#onWorker('stopping', workerId, {}, (scope) => settleInterrupted(this.parts, scope, workerId));
  }

  remove(workerId: string, force: boolean, launch: Launch = {}): Promise<Operation> {
    return this.#onWorker('removing', workerId, launch, (scope) => remove(this.parts, scope, workerId, force));
  }

  removeOrphan(platformId: string, vmId: string, launch: Launch = {}): Promise<Operation> {
    // The VM's id stands for the worker that is not known.
    return this.#start('removing', vmId, platformId, launch, (scope) => removeOrphan(this.parts, scope, platformId, vmId));
  }

  #onWorker(activity: WorkerActivity, workerId: string, launch: Launch, run: (scope: OperationScope) => Promise<FlowResult>) {
    return this.#start(activity, workerId, this.parts.store.get(workerId).platformId, launch, run);
  }

  async #start(
    activity: WorkerActivity,
    workerId: string,
    platformId: string,
    launch: Launch,
    run: (scope: OperationScope) => Promise<FlowResult>,
  ): Promise<Operation> {
    const { operationId = randomUUID(), fingerprint = 'by the plug-in itself' } = launch;
    return await this.registry.start({
      header: { operationId, kind: 'worker', sessionId: '', platformId, workerId, fingerprint },
      run: async (scope) => {
        this.#activities.set(workerId, activity);
        try {
          return await run(scope);
        } finally {
          this.#activities.delete(workerId);
        }
      },
    });
  }

  /** Every engine, every host that is up, every mover: it serves all of them. */
  async #testBesideServer(scope: OperationScope, workerId: string): Promise<FlowResult> {
    const { engines, host, workers, limits } = this.parts;
    scope.phase('starting');
    const movers = await host.createProbePaths();
    const targets: SelfTestTarget[] = [];
    for (const platformId of engines.platformIds()) {
      targets.push(...(await selfTestTargets(engines.of(platformId), undefined, [], limits, scope.signal)));
    }
    const result = await workers.selfTest(workerId, [...targets, ...moverTargets(movers)], scope.signal);
    this.selfTests.set(workerId, result);
    const problems = problemsOf(result);
    if (problems !== '') throw WorkerVmErrors.WORKER_SELF_TEST_FAILED({ name: workerId, problems });
    return succeeded(workerId);
  }
}
