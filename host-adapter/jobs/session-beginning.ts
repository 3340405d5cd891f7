import { randomUUID } from 'node:crypto';
import type { StoredJob } from '../catalogue/job-store';
import type { WorkerOrder } from '../workers/worker-order';
import type { SessionOrder, SessionRecord } from './session-record';
import { newTask } from './task-record';
import type { TaskRecord } from './task-record';

/** What else is known of a session that begins. */
export interface Beginning {
  readonly job?: StoredJob;
  readonly vms?: readonly Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName'>[];
  readonly pointId?: string | null;
  /** It does not run beside these. */
  readonly alone?: { with(running: SessionRecord): boolean; refuse(running: SessionRecord): Error };
  readonly scheduledAt?: string | undefined;
}

export function newSession(
  order: SessionOrder,
  at: Pick<SessionRecord, 'jobId' | 'jobName' | 'repositoryId' | 'repositoryName'>,
  trigger: SessionRecord['trigger'],
  now: Date,
): SessionRecord {
  return {
    ...at,
    id: randomUUID(),
    kind: order.kind,
    state: 'running',
    trigger,
    stopping: false,
    order,
    failure: null,
    sequence: 0,
    startedAt: now.toISOString(),
    endedAt: null,
  };
}

/** True for maintenance of a whole repository, which is done once at a time. */
export function isOfRepository({ order }: Pick<SessionRecord, 'order'>): boolean {
  return order.kind === 'collect' || (order.kind === 'verify' && order.pointId === '');
}

/** The same order; a deployment makes another worker. */
export function again(order: WorkerOrder): WorkerOrder {
  return order.action.name === 'deploy' ? { ...order, action: { ...order.action, workerId: randomUUID() } } : order;
}

export function taskOf(
  session: SessionRecord,
  vm: Pick<TaskRecord, 'platformId' | 'vmId' | 'vmName' | 'clusterId'>,
  ordinal: number,
  pointId: string | null,
): TaskRecord {
  const { platformId, vmId, vmName, clusterId } = vm;
  return newTask({ id: randomUUID(), sessionId: session.id, ordinal, platformId, vmId, vmName, clusterId }, pointId);
}
