import { randomUUID } from 'node:crypto';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { pause } from '../../common/rpc/call';
import type { OperationResult__Output } from '../../proto/gen/tidemark/plugin/v1/OperationResult';
import type { JobStore } from '../catalogue/job-store';
import type { SessionStore } from '../catalogue/session-store';
import type { SessionPaths } from '../data-paths/session-paths';
import { HostErrors } from '../errors/host-errors';
import type { Platforms } from '../inventory/platforms';
import { Repositories } from '../repositories/repositories';
import type { BackupCommit } from './backup-commit';
import { asBaseDamage } from './base-damage';
import type { FlowEnd, TaskFlow } from './flow';
import type { JobDefinition } from './job-definition';
import { resultError } from './operation-follower';
import type { OperationFollower } from './operation-follower';
import { preflight } from './preflight';
import { repositoryReason } from './repository-reason';
import type { Slots } from './slots';
import { pluginReason } from './task-context';
import type { TaskContext } from './task-context';
import { transportToWire } from './transport';

/** Backs up one VM: preflight, mover session, operation, commit. */
export class BackupFlow implements TaskFlow {
  constructor(
    private readonly platforms: Platforms,
    private readonly repositories: Repositories,
    private readonly committer: BackupCommit,
    private readonly paths: SessionPaths,
    private readonly follower: OperationFollower,
    private readonly jobs: JobStore,
    private readonly sessions: SessionStore,
    private readonly slots: Slots,
    private readonly logger: Logger,
    private readonly retryEveryMs = 1000,
  ) {}

  async attempt(context: TaskContext): Promise<FlowEnd> {
    const job = (await this.jobs.find(context.session.jobId ?? ''))?.definition;
    const release = await this.#takeSlots(context, job);
    try {
      if (context.task.step !== 'waiting') this.paths.adopt(context);
      else {
        await this.#takeVm(context);
        const skipped = await preflight(context, this.platforms, this.retryEveryMs);
        if (skipped) return skipped;
        await this.#start(context, job);
      }
      return await this.#follow(context);
    } catch (error) {
      this.paths.learnFrom(context, error);
      if (!context.shutdown.aborted) await this.#giveUp(context);
      throw asBaseDamage(context, error);
    } finally {
      this.paths.release(context);
      release();
      if (!context.shutdown.aborted) await context.stored(() => this.sessions.releaseVm(context.task.id));
    }
  }

  async #takeSlots(context: TaskContext, job: JobDefinition | undefined): Promise<() => void> {
    const { session, task } = context;
    const limits = [
      { name: `session:${session.id}`, limit: job?.limits.concurrentVms ?? 1, reason: 'job-tasks' },
      { name: `repository:${session.repositoryId}`, limit: context.settings.current.repositoryTasks, reason: 'repository-tasks' },
    ];
    if (task.step !== 'waiting') return this.slots.occupy(limits);
    await context.enter('queued');
    return this.slots.take(limits, (reason) => void context.waiting(reason).catch(() => undefined), context.stop);
  }

  /** One VM, one operation: waits as long as another has it. */
  async #takeVm(context: TaskContext): Promise<void> {
    const { task } = context;
    for (;;) {
      const held = await this.sessions.takeVm(task.platformId, task.vmId, task.id, 'backup');
      if (held === undefined) return;
      await context.waiting(`vm-in-${held}`);
      await pause(this.retryEveryMs, context.stop);
    }
  }

  /** Opens the mover session and starts the operation. What may exist from here on is written down first. */
  async #start(context: TaskContext, job: JobDefinition | undefined): Promise<void> {
    const { task, session } = context;
    const base = await context.patiently(() => this.repositories.pointsOf(session.repositoryId, task.vmId), repositoryReason);
    const newest = base
      .filter((point) => !point.damaged && point.platformId === task.platformId)
      .reduce<(typeof base)[number] | undefined>(
        (best, point) => (best && best.pointInTime >= point.pointInTime ? best : point),
        undefined,
      );
    task.operationId = randomUUID();
    task.moverSessionId = randomUUID();
    task.pointId = randomUUID();
    task.watchedSequence = 0;
    task.disks = [];
    task.step = 'started';
    task.path = null;
    await context.save();
    const dataPath = await context.patiently(
      () => this.paths.open(context, { kind: 'backup', pointIds: newest ? [newest.id] : [] }),
      // Running sessions end well in a repository without room; new ones wait for it.
      (error) => (error.code === 'REPOSITORY_FULL' ? Repositories.reasonOf(error) : repositoryReason(error)),
    );
    const full = task.forceFull || (session.order.kind === 'backup' && session.order.full);
    const request = {
      operationId: task.operationId,
      vm: { platformId: task.platformId, vmId: task.vmId },
      jobName: session.jobName,
      sessionId: session.id,
      dataPath,
      ...(newest
        ? { base: { pointId: newest.id, checkpointId: newest.checkpointId, diskIds: newest.disks.map((disk) => disk.diskId) } }
        : {}),
      forceFull: full,
      excludedDiskIds: [...(job?.excludedDiskIds ?? [])],
      requireConsistency: job?.requireConsistency ?? false,
      diskParallel: job?.limits.disksPerVm ?? 0,
      transport: transportToWire(job?.transport),
    };
    await context.patiently(
      async () => {
        const plugin = await this.platforms.pluginOf(task.platformId);
        await plugin.protection.call('StartBackup', request, { deadlineMs: 10_000, signal: context.stop });
      },
      (error) => {
        if (error.code === 'VM_BUSY') return 'vm-in-backup';
        return error.code === 'PLUGIN_BUSY' ? 'plugin-tasks' : pluginReason(error);
      },
      this.retryEveryMs,
    );
  }

  async #follow(context: TaskContext): Promise<FlowEnd> {
    const { task } = context;
    let commitError: TidemarkError | undefined;
    const followed = await this.follower.follow(context, {
      plugin: () => this.platforms.pluginOf(task.platformId),
      awaitingCommit: async (event) => {
        commitError = await this.committer.commit(context, event);
      },
    });
    if (followed.end === 'result') return this.#judge(context, followed.result, commitError ?? followed.moverLost);
    // Without a path no mover was asked for a session yet: there is nobody who could have committed it.
    const committed = task.path != null && (await this.committer.wasCommitted(context));
    const lost = HostErrors.OPERATION_LOST({ operationId: task.operationId ?? '' });
    if (committed) return this.#committedButNotClean(context, lost);
    if (context.cancel.aborted) {
      await this.#giveUp(context);
      return { state: 'cancelled' };
    }
    throw lost;
  }

  async #judge(context: TaskContext, result: OperationResult__Output, earlier: TidemarkError | undefined): Promise<FlowEnd> {
    const { task } = context;
    const committed = task.step === 'committed' || task.step === 'concluded';
    const error = earlier ?? resultError(result, task.operationId ?? '');
    switch (result.outcome) {
      case 'OUTCOME_SUCCESS':
      case 'OUTCOME_WARNING':
      case 'OUTCOME_PARTIAL': {
        if (!committed) throw error;
        const failure = result.failure ? resultError(result, task.operationId ?? '') : undefined;
        if (result.outcome === 'OUTCOME_PARTIAL') return { state: 'partial', failure };
        return { state: result.outcome === 'OUTCOME_SUCCESS' ? 'success' : 'warning', failure };
      }
      case 'OUTCOME_SKIPPED':
        await this.#giveUp(context);
        return { state: 'skipped', failure: error };
      default:
        if (committed) return this.#committedButNotClean(context, error);
        if (result.outcome === 'OUTCOME_CANCELLED' && context.cancel.aborted) {
          await this.#giveUp(context);
          return { state: 'cancelled' };
        }
        throw error;
    }
  }

  /** The point is good although the operation did not end well; what it left behind is the plug-in's janitor's. */
  #committedButNotClean(context: TaskContext, failure: TidemarkError): FlowEnd {
    const message = `The point is complete; the clean-up afterwards was interrupted: ${failure.message}`;
    context.note({ code: 'cleanup-interrupted', severity: 'warning', message, diskId: '' });
    return { state: 'warning', failure };
  }

  /** Ends what a try left on the mover, and makes the task ready for another try. Never rejects. */
  async #giveUp(context: TaskContext): Promise<void> {
    const { task } = context;
    if (task.step !== 'started') return;
    try {
      const plugin = await this.platforms.pluginOf(task.platformId);
      await plugin.protection.call('CancelOperation', { operationId: task.operationId ?? '' }, { deadlineMs: 10_000, attempts: 3 });
    } catch (error) {
      // Ended, unknown or unreachable: without its mover session it can do nothing but clean up.
      this.logger.debug('an operation was not cancelled', { operationId: task.operationId, error });
    }
    try {
      await this.paths.abort(context);
    } catch (error) {
      // Its lease ends by itself.
      this.logger.warn('a mover session could not be aborted', { sessionId: task.moverSessionId, error });
    }
    task.step = 'waiting';
    task.operationId = null;
    task.moverSessionId = null;
    task.pointId = null;
    task.watchedSequence = 0;
    await context.save();
  }
}
