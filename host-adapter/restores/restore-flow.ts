import { randomUUID } from 'node:crypto';
import type { Logger } from '../../common/log/logger';
import type { MacPolicy } from '../../proto/gen/tidemark/plugin/v1/MacPolicy';
import type { StartRestoreRequest } from '../../proto/gen/tidemark/plugin/v1/StartRestoreRequest';
import type { SessionPaths } from '../data-paths/session-paths';
import { HostErrors } from '../errors/host-errors';
import type { FlowEnd, TaskFlow } from '../jobs/flow';
import { resultError } from '../jobs/operation-follower';
import type { Followed, OperationFollower } from '../jobs/operation-follower';
import type { RestoreOrder } from '../jobs/session-record';
import type { Slots } from '../jobs/slots';
import { isTransient, pluginReason } from '../jobs/task-context';
import type { TaskContext } from '../jobs/task-context';
import { transportToWire } from '../jobs/transport';
import type { PluginConnections } from '../registry/plugin-connections';
import { Repositories } from '../repositories/repositories';

/** Restores a VM, a disk or a file from one point: a reading session on the mover and an operation of the plug-in. */
export class RestoreFlow implements TaskFlow {
  constructor(
    private readonly plugins: PluginConnections,
    private readonly repositories: Repositories,
    private readonly paths: SessionPaths,
    private readonly follower: OperationFollower,
    private readonly slots: Slots,
    private readonly logger: Logger,
  ) {}

  async attempt(context: TaskContext): Promise<FlowEnd> {
    const { session, task } = context;
    if (session.order.kind !== 'restore') throw HostErrors.BACKUP_SESSION_NOT_FOUND({ session: session.id });
    const { order } = session;
    const limits = [
      { name: `repository:${session.repositoryId}`, limit: context.settings.current.repositoryTasks, reason: 'repository-tasks' },
    ];
    const waiting = (reason: string) => void context.waiting(reason).catch(() => undefined);
    let hasEnded = false;
    const release = task.step === 'waiting' ? await this.slots.take(limits, waiting, context.stop) : this.slots.occupy(limits);
    try {
      if (task.step === 'waiting') await this.#start(context, order);
      else this.paths.adopt(context);
      const followed = await this.follower.follow(context, { plugin: () => this.plugins.of(order.pluginId) });
      const end = judge(context, followed);
      hasEnded = true;
      return end;
    } catch (error) {
      this.paths.learnFrom(context, error);
      throw error;
    } finally {
      try {
        if (!context.shutdown.aborted) await this.#close(context, order, hasEnded);
      } finally {
        this.paths.release(context);
        release();
      }
    }
  }

  async #start(context: TaskContext, order: RestoreOrder): Promise<void> {
    const { task, session } = context;
    await context.enter('preparing');
    const reasonOf = (error: Parameters<typeof pluginReason>[0]) =>
      isTransient(error) || error.code === 'REPOSITORY_LOCKED' ? Repositories.reasonOf(error) : undefined;
    const stored = await context.patiently(async () => {
      const mover = await this.repositories.mover(session.repositoryId);
      const request = { repositoryId: session.repositoryId, pointId: order.pointId };
      return mover.repositories.call('GetPoint', request, { deadlineMs: 15_000, signal: context.stop });
    }, reasonOf);
    const disks = (stored.point?.disks ?? []).filter((disk) => order.diskIds.includes(disk.diskId));
    task.operationId = randomUUID();
    task.moverSessionId = randomUUID();
    task.watchedSequence = 0;
    task.disks = [];
    task.step = 'started';
    task.path = null;
    await context.save();
    const dataPath = await context.patiently(() => this.paths.open(context, { kind: 'restore', pointIds: [order.pointId] }), reasonOf);
    const request: StartRestoreRequest = {
      operationId: task.operationId,
      platformId: order.platformId,
      sessionId: session.id,
      dataPath,
      pointId: order.pointId,
      disks: disks.map((disk) => ({
        diskId: disk.diskId,
        name: disk.name,
        sizeBytes: disk.sizeBytes,
        format: disk.format,
        sparse: disk.sparse,
        storageDomainId: disk.storageDomainId,
        interface: disk.interface,
        bootable: disk.bootable,
      })),
      configuration: stored.configuration,
      transport: transportToWire(order.transport),
      ...targetOf(order),
    };
    await context.patiently(
      async () => {
        const plugin = await this.plugins.of(order.pluginId);
        await plugin.protection.call('StartRestore', request, { deadlineMs: 10_000, signal: context.stop });
      },
      (error) => (error.code === 'PLUGIN_BUSY' ? 'plugin-tasks' : pluginReason(error)),
    );
  }

  /** Lets the points go that the session reads, and whatever may still read them. Never rejects. */
  async #close(context: TaskContext, order: RestoreOrder, hasEnded: boolean): Promise<void> {
    const { task } = context;
    if (task.step !== 'started') return;
    try {
      const plugin = await this.plugins.of(order.pluginId);
      await plugin.protection.call('CancelOperation', { operationId: task.operationId ?? '' }, { deadlineMs: 10_000, attempts: 3 });
    } catch (error) {
      // Ended, unknown or unreachable.
      this.logger.debug('an operation was not cancelled', { operationId: task.operationId, error });
    }
    try {
      await this.paths.abort(context);
    } catch (error) {
      // Its lease ends by itself.
      this.logger.warn('a mover session could not be ended', { sessionId: task.moverSessionId, error });
    }
    // A restore that is done is not begun again, wherever the server is killed.
    if (hasEnded) return;
    task.step = 'waiting';
    task.watchedSequence = 0;
    await context.save();
  }
}

/** How an operation ended; throws what may be tried again. */
function judge(context: TaskContext, followed: Followed): FlowEnd {
  const operationId = context.task.operationId ?? '';
  if (followed.end !== 'result') {
    if (context.cancel.aborted) return { state: 'cancelled' };
    throw HostErrors.OPERATION_LOST({ operationId });
  }
  const { result } = followed;
  const failure = result.failure ? resultError(result, operationId) : undefined;
  switch (result.outcome) {
    case 'OUTCOME_SUCCESS':
      return { state: 'success', failure };
    case 'OUTCOME_WARNING':
      return { state: 'warning', failure };
    case 'OUTCOME_PARTIAL':
      return { state: 'partial', failure };
    case 'OUTCOME_SKIPPED':
      return { state: 'skipped', failure };
    default:
      if (result.outcome === 'OUTCOME_CANCELLED' && context.cancel.aborted) return { state: 'cancelled' };
      throw followed.moverLost ?? resultError(result, operationId);
  }
}

const macPolicies: Readonly<Record<'keep' | 'keep-if-free' | 'new', MacPolicy>> = {
  keep: 'MAC_POLICY_KEEP',
  'keep-if-free': 'MAC_POLICY_KEEP_IF_FREE',
  new: 'MAC_POLICY_NEW',
};

function targetOf({ to }: RestoreOrder): Pick<StartRestoreRequest, 'newVm' | 'newDisk' | 'file'> {
  switch (to.target) {
    case 'vm':
      return {
        newVm: {
          name: to.name,
          clusterId: to.clusterId,
          storageDomainId: to.storageDomainId,
          storageDomains: [...to.storageDomains],
          vnicProfiles: [...to.vnicProfiles],
          macPolicy: macPolicies[to.macPolicy],
          powerOn: to.powerOn,
        },
      };
    case 'disk':
      return { newDisk: { storageDomainId: to.storageDomainId, name: to.name } };
    case 'file':
      return { file: { path: to.path, format: to.format } };
  }
}
