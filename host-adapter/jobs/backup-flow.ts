import { randomUUID } from 'node:crypto';
import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { pause } from '../../common/rpc/call';
import { failureError } from '../../common/rpc/failure-message';
import type { AwaitingCommit__Output } from '../../proto/gen/tidemark/plugin/v1/AwaitingCommit';
import type { OperationResult__Output } from '../../proto/gen/tidemark/plugin/v1/OperationResult';
import type { JobStore } from '../catalogue/job-store';
import type { PointStore } from '../catalogue/point-store';
import type { SessionStore } from '../catalogue/session-store';
import type { SessionPaths } from '../data-paths/session-paths';
import { HostErrors } from '../errors/host-errors';
import type { Platforms } from '../inventory/platforms';
import type { MoverSessions } from '../repositories/mover-sessions';
import { pointFrom } from '../repositories/point-mapping';
import { Repositories } from '../repositories/repositories';
import { asBaseDamage } from './base-damage';
import { describedPoint } from './described-point';
import type { FlowEnd, TaskFlow } from './flow';
import type { JobDefinition } from './job-definition';
import { noteSeverity, resultError } from './operation-follower';
import type { OperationFollower } from './operation-follower';
import type { Slots } from './slots';
import { isTransient, pluginReason } from './task-context';
import type { TaskContext } from './task-context';
import { transportToWire } from './transport';

/** The plug-in gives the host 15 minutes to commit; some of it is for telling it. */
const commitPatienceMs = 12 * 60_000;
const concludePatienceMs = 10 * 60_000;
const preflightEveryMs = 15_000;

/** Backs up one VM: preflight, mover session, operation, commit. */
export class BackupFlow implements TaskFlow {
  constructor(
    private readonly platforms: Platforms,
    private readonly repositories: Repositories,
    private readonly moverSessions: MoverSessions,
    private readonly paths: SessionPaths,
    private readonly follower: OperationFollower,
    private readonly jobs: JobStore,
    private readonly points: PointStore,
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
        const skipped = await this.#preflight(context);
        if (skipped) return skipped;
        await this.#start(context, job);
      }
      return await this.#follow(context);
    } catch (error) {
      this.paths.learnFrom(context, error);
      if (!context.shutdown.aborted) await this.#giveUp(context);
      throw asBaseDamage(context, error);
    } finally {
      if (!context.shutdown.aborted) await this.sessions.releaseVm(context.task.id);
      this.paths.release(context);
      release();
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

  /** Asks until there is a verdict that waiting does not change; an end when the VM cannot be backed up. */
  async #preflight(context: TaskContext): Promise<FlowEnd | undefined> {
    const { task } = context;
    await context.enter('preparing');
    const began = context.now().getTime();
    for (;;) {
      const verdict = await context.patiently(async () => {
        const plugin = await this.platforms.pluginOf(task.platformId);
        const vms = [{ platformId: task.platformId, vmId: task.vmId }];
        return (await plugin.protection.call('Preflight', { vms }, { deadlineMs: 60_000, signal: context.stop })).verdicts[0];
      }, pluginReason);
      if (!verdict) throw HostErrors.VM_UNKNOWN({ vm: task.vmName });
      if (verdict.failure) throw failureError(verdict.failure);
      const blocking = verdict.findings.filter((finding) => finding.severity === 'SEVERITY_BLOCKING');
      if (verdict.canBackUp) {
        for (const { code, severity, message, diskId } of verdict.findings) {
          context.note({ code, message, diskId, severity: noteSeverity(severity) });
        }
        return undefined;
      }
      const first = blocking.find((finding) => finding.diskId === '') ?? blocking[0] ?? verdict.findings[0];
      const code = first?.code ?? 'vm-state';
      if (!verdict.retryLater) {
        for (const finding of blocking) {
          context.note({ code: finding.code, message: finding.message, diskId: finding.diskId, severity: 'blocking' });
        }
        return {
          state: 'skipped',
          failure: HostErrors.VM_NOT_PROTECTABLE({ code, text: `${first?.message ?? ''} ${first?.advice ?? ''}`.trim() }),
        };
      }
      const waitedMs = context.now().getTime() - began;
      if (waitedMs > context.settings.current.waitLimitMs) throw HostErrors.WAITED_TOO_LONG({ reason: code, waitedMs });
      await context.waiting(code);
      await pause(Math.min(preflightEveryMs, this.retryEveryMs * 15), context.stop);
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
    await context.save();
    task.path = null;
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
        commitError = await this.#commit(context, event);
      },
    });
    if (followed.end === 'result') return this.#judge(context, followed.result, commitError ?? followed.moverLost);
    const committed = await this.#wasCommitted(context);
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

  /** Makes the point visible and tells the plug-in. Returns why it could not; rejects only when the server stops. */
  async #commit(context: TaskContext, event: AwaitingCommit__Output): Promise<TidemarkError | undefined> {
    const { task, session } = context;
    await context.enter('committing');
    const began = context.now().getTime();
    let failure: TidemarkError | undefined;
    while (task.step === 'started') {
      if (context.cancel.aborted) {
        failure = HostErrors.OPERATION_STOPPED({ operationId: task.operationId ?? '' });
        break;
      }
      try {
        const content = { point: describedPoint(context, event), configuration: event.configuration };
        const made = await this.moverSessions.commit(task.path?.moverId ?? '', task.moverSessionId ?? '', content, context.shutdown);
        await this.points.put(pointFrom(session.repositoryId, made));
        task.pointId = made.pointId;
        task.step = 'committed';
        await context.waiting(null);
        await context.save();
      } catch (thrown) {
        if (context.shutdown.aborted) throw thrown;
        const error = toTidemarkError(thrown, 'committing');
        // Elsewhere: the session is just going over to another mover.
        const again = error.retry === 'same-request' || error.retry === 'after-delay' || error.code === 'SESSION_ELSEWHERE';
        if (!again || context.now().getTime() - began > commitPatienceMs) {
          failure = error;
          break;
        }
        await context.waiting(Repositories.reasonOf(error));
        await pause(Math.max(error.retryDelayMs ?? 0, this.retryEveryMs), context.shutdown);
      }
    }
    await this.#conclude(context, task.step !== 'started');
    return failure;
  }

  async #conclude(context: TaskContext, committed: boolean): Promise<void> {
    const { task } = context;
    for (const began = context.now().getTime(); context.now().getTime() - began < concludePatienceMs;) {
      try {
        const plugin = await this.platforms.pluginOf(task.platformId);
        const settings = { deadlineMs: 10_000, signal: context.shutdown };
        await plugin.protection.call('ConcludeBackup', { operationId: task.operationId ?? '', committed }, settings);
        break;
      } catch (error) {
        if (context.shutdown.aborted) throw error;
        if (!isTransient(error) && !hasCode(error, 'PLUGIN_DISABLED')) {
          // The operation is gone or has decided for itself; the watch tells how it ended.
          this.logger.warn('a backup could not be concluded', { operationId: task.operationId, committed, error });
          break;
        }
        await context.waiting('plugin-lost');
        await pause(this.retryEveryMs, context.shutdown);
      }
    }
    if (committed) task.step = 'concluded';
    await context.waiting(null);
  }

  async #wasCommitted(context: TaskContext): Promise<boolean> {
    const { task, session } = context;
    if (task.step === 'committed' || task.step === 'concluded') return true;
    if (task.moverSessionId === null) return false;
    const { moverSessionId } = task;
    const committed = await context.patiently(() => this.#isCommitted(context, moverSessionId), repositoryReason);
    if (committed) {
      task.step = 'concluded';
      await context.save();
      await this.repositories.refreshPoints(session.repositoryId).catch((error: unknown) => {
        this.logger.warn('points could not be read', { repositoryId: session.repositoryId, error });
      });
    }
    return committed;
  }

  /** Asks the session's mover; when that is gone, whether the repository has the point. */
  async #isCommitted({ task, session }: TaskContext, moverSessionId: string): Promise<boolean> {
    try {
      return await this.moverSessions.isCommitted(task.path?.moverId ?? '', moverSessionId);
    } catch (error) {
      if (!isTransient(error)) throw error;
      return (await this.repositories.pointsOf(session.repositoryId, task.vmId)).some(({ id }) => id === task.pointId);
    }
  }

  /** Ends what a try left on the mover, and makes the task ready for another try. Never rejects. */
  async #giveUp(context: TaskContext): Promise<void> {
    const { task } = context;
    if (task.step !== 'started') return;
    try {
      const plugin = await this.platforms.pluginOf(task.platformId);
      await plugin.protection.call('CancelOperation', { operationId: task.operationId ?? '' }, { deadlineMs: 10_000 });
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

/** A repository that waiting may help. */
function repositoryReason(error: TidemarkError): string | undefined {
  return isTransient(error) || error.code === 'REPOSITORY_LOCKED' ? Repositories.reasonOf(error) : undefined;
}
