/** Makes and starts a VM for a worker, up to the point where it is tested; who calls decides what becomes of it. */
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import type { OperationScope } from '../operations/operation';
import { checkMemory, checkRoom } from './deployment-plan';
import type { DeploymentPlan } from './deployment-plan';
import { endpointsFor, throwIfAborted } from './flow-parts';
import type { FlowParts } from './flow-parts';
import type { MadeVm } from './vm-maker';
import type { WorkerImage } from './worker-image';

export interface MakingOrder {
  readonly workerId: string;
  readonly platformId: string;
  readonly plan: DeploymentPlan;
  /** Of the VM while it is new. */
  readonly vmName: string;
  readonly requestedBy: string;
}

export interface TestedVm extends MadeVm {
  readonly image: WorkerImage;
  readonly selfTest: SelfTest__Output | undefined;
}

/** Everything that can be refused before something is made. */
export async function checkBefore(parts: FlowParts, scope: OperationScope, order: MakingOrder): Promise<WorkerImage> {
  scope.phase('preparing');
  endpointsFor(parts, order.platformId);
  const image = await parts.images.verified(scope.signal);
  await checkRoom(parts.engines.of(order.platformId), order.plan, image, parts.limits, scope.signal);
  return image;
}

/** Throws what its steps throw; what was made is in the journal under the operation. Nothing is made when {@link checkBefore} refuses. */
export async function makeTestedVm(parts: FlowParts, scope: OperationScope, order: MakingOrder): Promise<TestedVm> {
  const { workerId, platformId, plan, vmName, requestedBy } = order;
  const { signal } = scope;
  const engine = parts.engines.of(platformId);
  const image = await checkBefore(parts, scope, order);
  const { settings, cluster, name } = plan;
  const made = await parts.maker.make(engine, scope, {
    plan,
    vmName,
    description:
      settings.description === ''
        ? `created by ${requestedBy} on ${new Date(parts.patience.clock.now()).toISOString()}`
        : settings.description,
    mark: { workerId, madeBy: parts.madeBy, operationId: scope.header.operationId },
    image,
  });
  const hostIds = await checkMemory(engine, cluster, settings, plan.size.memoryBytes, signal);
  const { selfTest, failure } = await parts.starter.start(engine, scope, {
    ...{ workerId, name, platformId, settings, hostIds },
    clusterId: cluster.id,
    vmId: made.vmId,
    endpoints: endpointsFor(parts, platformId),
  });
  if (failure) throw failure;
  scope.phase('committing');
  throwIfAborted(scope);
  return { ...made, image, selfTest };
}
