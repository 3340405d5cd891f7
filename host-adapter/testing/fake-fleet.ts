import { CommonErrors } from '../../common/errors/common-errors';
import { TidemarkError } from '../../common/errors/tidemark-error';
import { timestampToWire } from '../../common/rpc/bytes';
import type { ServiceHandlers } from '../../common/rpc/serve';
import type { FleetPolicy } from '../../proto/gen/tidemark/plugin/v1/FleetPolicy';
import type { OperationResult } from '../../proto/gen/tidemark/plugin/v1/OperationResult';
import type { OrphanWorker } from '../../proto/gen/tidemark/plugin/v1/OrphanWorker';
import type { SelfTest } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { StartWorkerOperationRequest__Output } from '../../proto/gen/tidemark/plugin/v1/StartWorkerOperationRequest';
import type { Worker } from '../../proto/gen/tidemark/plugin/v1/Worker';
import type { WorkerFleetServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/WorkerFleetService';

/** As the plug-in answers; its own table of errors is not ours to import. */
const workerNotFound = () =>
  new TidemarkError({ code: 'WORKER_NOT_FOUND', kind: 'failure', retry: 'never', status: 'NOT_FOUND' }, 'There is no such worker.');
const imageMissing = () =>
  new TidemarkError(
    { code: 'WORKER_IMAGE_MISSING', kind: 'failure', retry: 'after-operator', status: 'FAILED_PRECONDITION' },
    'There is no worker image.',
  );

const defaultPolicy: FleetPolicy = {
  deployAutomatically: true,
  allowOtherClusters: true,
  allowBesideServer: true,
  stopIdleAfter: { seconds: '600', nanos: 0 },
  warmWorkers: 0,
  maxWorkers: 4,
  tasksPerHost: 2,
  tasksPerStorageDomain: 4,
  tasksPerPlatform: 16,
  namePrefix: 'tidemark',
};

const cell = (check: string, target: string) => ({
  check: `SELF_TEST_CHECK_${check}` as const,
  target,
  targetName: target.split(':')[0] ?? '',
  verdict: 'SELF_TEST_VERDICT_PASSED' as const,
  detail: 'connected in 3 ms',
  latency: { seconds: '0', nanos: 3_000_000 },
});
const goodTest = {
  verdict: 'SELF_TEST_VERDICT_PASSED',
  cells: [cell('ENGINE', 'engine:443'), cell('HOST', 'host-1:54322'), cell('MOVER', 'main:8445')],
} as unknown as SelfTest;

/** The workers of a plug-in in memory: an action changes the list when its operation's story is over. */
export class FakeFleet {
  readonly workers: Worker[] = [
    { workerId: 'worker-1', hostName: 'beside', name: 'beside', state: 'connected', taskSlots: 4, selfTest: goodTest },
  ];
  readonly orphans: OrphanWorker[] = [];
  readonly policies = new Map<string, FleetPolicy>();
  /** Every PrepareWorkers that came. */
  readonly prepared: { readonly vmIds: readonly string[]; readonly neededAt: Date }[] = [];
  readonly requests: StartWorkerOperationRequest__Output[] = [];
  /** The next answers to StartWorkerOperation come after this; the operation begins at once. */
  answered: Promise<void> = Promise.resolve();
  /** Called when workers are to be listed; may reject. */
  onList: () => Promise<void> = () => Promise.resolve();
  imageVersion: string | undefined = '1.0.0';
  /** What the next self-tests find. */
  selfTest: SelfTest = goodTest;

  handlers(begin: (id: string, request: StartWorkerOperationRequest__Output) => object): ServiceHandlers<WorkerFleetServiceDefinition> {
    const roles = ['host'] as const;
    return {
      ListWorkers: {
        roles,
        unary: async () => {
          await this.onList();
          return { workers: this.workers };
        },
      },
      DrainWorker: { roles, unary: async ({ workerId }) => this.#state(workerId, 'drained') },
      ResumeWorker: { roles, unary: async ({ workerId }) => this.#state(workerId, 'connected') },
      ListOrphanWorkers: { roles, unary: async () => ({ orphans: this.orphans }) },
      StartWorkerOperation: {
        roles,
        unary: async (request) => {
          if (!this.requests.some(({ operationId }) => operationId === request.operationId)) this.requests.push(request);
          const begun = begin(request.operationId, request);
          await this.answered;
          return begun;
        },
      },
      GetFleetPolicy: {
        roles,
        unary: async ({ platformId }) => ({ policy: this.policies.get(platformId) ?? { ...defaultPolicy, platformId } }),
      },
      PutFleetPolicy: {
        roles,
        unary: async ({ policy }) => {
          if (!policy) throw CommonErrors.ARGUMENT_INVALID({ field: 'policy', problem: 'is missing' });
          this.policies.set(policy.platformId, policy);
          return {};
        },
      },
      PrepareWorkers: {
        roles,
        unary: async ({ vmIds, neededAt }) => {
          this.prepared.push({ vmIds, neededAt: new Date(Number(neededAt?.seconds ?? 0) * 1000) });
          return {};
        },
      },
      GetWorkerImage: {
        roles,
        unary: async () => {
          if (this.imageVersion === undefined) throw imageMissing();
          return { version: this.imageVersion, sha256: 'ab', fileBytes: '1000', diskBytes: '2000', path: '/images/worker.qcow2' };
        },
      },
    };
  }

  /** What an action did, at the end of its operation. */
  conclude(request: StartWorkerOperationRequest__Output): OperationResult {
    const at = (workerId: string) => this.workers.findIndex((worker) => worker.workerId === workerId);
    const change = (workerId: string, to: Partial<Worker>): OperationResult => {
      const worker = this.workers[at(workerId)];
      if (!worker) throw workerNotFound();
      this.workers[at(workerId)] = { ...worker, ...to };
      return { outcome: 'OUTCOME_SUCCESS', createdId: workerId };
    };
    const tested = () => ({ state: 'connected', selfTest: { ...this.selfTest, testedAt: timestampToWire(new Date()) } });
    switch (request.action) {
      case 'deploy': {
        const { workerId = '', platformId = '', clusterId = '', settings } = request.deploy ?? {};
        const name = settings?.name || 'tidemark-worker-east-01';
        const place = { platformId, clusterId, clusterName: 'fast', vmId: `vm-of-${workerId}`, imageVersion: this.imageVersion ?? '' };
        this.workers.push({ workerId, name, hostName: name, taskSlots: settings?.taskSlots || 4, ...place, settings: settings ?? null });
        return change(workerId, tested());
      }
      case 'edit':
        return change(request.edit?.workerId ?? '', { ...tested(), settings: request.edit?.settings ?? null });
      case 'redeploy':
        return change(request.redeploy?.workerId ?? '', { ...tested(), imageVersion: this.imageVersion ?? '', outdated: false });
      case 'test':
        return change(request.test?.workerId ?? '', tested());
      case 'start':
        return change(request.start?.workerId ?? '', tested());
      case 'stop':
        return change(request.stop?.workerId ?? '', { state: 'stopped' });
      case 'remove':
        this.workers.splice(at(request.remove?.workerId ?? ''), 1);
        return { outcome: 'OUTCOME_SUCCESS' };
      default: {
        const index = this.orphans.findIndex((orphan) => orphan.vmId === request.removeOrphan?.vmId);
        this.orphans.splice(index, 1);
        return { outcome: 'OUTCOME_SUCCESS' };
      }
    }
  }

  #state(workerId: string, state: string): object {
    const index = this.workers.findIndex((worker) => worker.workerId === workerId);
    const worker = this.workers[index];
    if (!worker) throw workerNotFound();
    this.workers[index] = { ...worker, state };
    return {};
  }
}
