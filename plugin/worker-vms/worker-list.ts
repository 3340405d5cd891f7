/** Workers as they are listed: what is kept of those in VMs, and who is connected. States: tidemark.plugin.v1.Worker, field 5. */
import type { FailureDetail } from '../../proto/gen/tidemark/common/v1/FailureDetail';
import type { SelfTest } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { WorkerView } from '../workers/member';
import type { ConnectedWorker } from '../workers/ports';
import { sizeOf } from './settings';
import type { WorkerSettings } from './settings';
import type { WorkerOperations } from './worker-operations';
import type { StoredWorker } from './worker-store';

export interface ListedWorker {
  readonly workerId: string;
  readonly hostName: string;
  readonly version: string;
  readonly platformId: string;
  readonly clusterId: string;
  readonly clusterName: string;
  readonly state: string;
  readonly name: string;
  readonly taskSlots: number;
  readonly runningTasks: number;
  readonly residentMemoryBytes: number;
  readonly lastSeenAt: number | undefined;
  readonly vmId: string;
  readonly hostId: string;
  readonly imageVersion: string;
  readonly outdated: boolean;
  readonly addresses: readonly string[];
  readonly selfTest: SelfTest | null;
  readonly problem: FailureDetail | null;
  /** Undefined for a worker beside the server. */
  readonly settings: WorkerSettings | undefined;
  readonly operationId: string;
  readonly createdAt: number | undefined;
  readonly certificateExpiresAt: ConnectedWorker['trust'];
}

export function listWorkers(operations: WorkerOperations, seen: readonly WorkerView[]): ListedWorker[] {
  const { store, workers, images } = operations.parts;
  const views = new Map(seen.map((view) => [view.workerId, view]));
  const connected = new Map(workers.connected().map((worker) => [worker.workerId, worker]));
  const common = (workerId: string) => {
    const [view, stream] = [views.get(workerId), connected.get(workerId)];
    return {
      workerId,
      hostName: view?.hostName ?? '',
      version: stream?.version ?? view?.version ?? '',
      runningTasks: stream?.runningTasks ?? view?.runningTasks ?? 0,
      residentMemoryBytes: stream ? (view?.residentMemoryBytes ?? 0) : 0,
      lastSeenAt: view?.lastSeenAt,
      addresses: stream?.addresses ?? [],
      operationId: operations.ownerOf(workerId) ?? '',
      certificateExpiresAt: stream?.trust,
    };
  };
  const deployed = store.workers().map((worker): ListedWorker => {
    const { platformId, clusterId, clusterName, name, vmId, imageVersion, selfTest, problem, settings, createdAt } = worker;
    return {
      ...common(worker.workerId),
      ...{ platformId, clusterId, clusterName, name, vmId, imageVersion, selfTest, problem, settings, createdAt },
      state: stateOf(worker, operations.activityOf(worker.workerId), views.get(worker.workerId), connected.get(worker.workerId)),
      taskSlots: sizeOf(settings).taskSlots,
      hostId: operations.hostIds.get(vmId) ?? '',
      outdated: images.latest !== undefined && images.latest.version !== imageVersion,
    };
  });
  const coming = operations.pending.list().map((order): ListedWorker => {
    const { workerId, platformId, plan } = order;
    return {
      ...common(workerId),
      ...{
        platformId,
        clusterId: plan.cluster.id,
        clusterName: plan.cluster.name,
        name: plan.name,
        vmId: '',
        hostId: '',
        imageVersion: '',
      },
      ...{ selfTest: null, problem: null, settings: plan.settings, createdAt: undefined, outdated: false },
      state: 'deploying',
      taskSlots: plan.size.taskSlots,
    };
  });
  const listed = new Set([...deployed, ...coming].map((worker) => worker.workerId));
  const others = seen.flatMap((view): ListedWorker[] => {
    if (listed.has(view.workerId)) return [];
    const { platformId, clusterId, state, taskSlots, hostName } = view;
    return [
      {
        ...common(view.workerId),
        ...{ platformId, clusterId, clusterName: '', state, taskSlots, name: hostName, vmId: '', hostId: '' },
        imageVersion: connected.get(view.workerId)?.imageVersion ?? '',
        selfTest: operations.selfTests.get(view.workerId) ?? null,
        ...{ outdated: false, problem: null, settings: undefined, createdAt: undefined },
      },
    ];
  });
  return [...deployed, ...coming, ...others].sort((a, b) => a.name.localeCompare(b.name) || a.workerId.localeCompare(b.workerId));
}

function stateOf(
  worker: StoredWorker,
  activity: string | undefined,
  view: WorkerView | undefined,
  connected: ConnectedWorker | undefined,
): string {
  if (activity === 'deploying' && worker.phase !== 'stopping') return 'deploying';
  switch (worker.phase) {
    case 'ready':
      return connected ? (view?.state ?? 'connected') : 'lost';
    case 'stopping':
      return (connected?.usedSlots ?? 0) > 0 ? 'draining' : 'stopping';
    case 'removing':
      return 'stopping';
    case 'stopped':
    case 'starting':
    case 'lost':
    case 'failed':
      return worker.phase;
  }
}
