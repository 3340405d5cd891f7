import { failureError } from '../../common/rpc/failure-message';
import { bytesFromWire, durationToWire } from '../../common/rpc/bytes';
import type { VerifyResult__Output } from '../../proto/gen/tidemark/mover/v1/VerifyResult';
import type { PointStore } from '../catalogue/point-store';
import { HostErrors } from '../errors/host-errors';
import { followMoverOperation } from '../maintenance/mover-operation';
import { hurtText, namedFindings } from '../maintenance/named-findings';
import type { Repositories } from '../repositories/repositories';
import type { FlowEnd, TaskFlow } from './flow';
import type { TaskContext } from './task-context';
import { zeroCounters } from './task-record';

const dayMs = 86_400_000;

/** Verifies one point, or a whole repository: the mover reads and compares, this side watches. */
export class VerifyFlow implements TaskFlow {
  constructor(
    private readonly repositories: Repositories,
    private readonly points: Pick<PointStore, 'find'>,
    private readonly retryEveryMs = 1000,
  ) {}

  attempt(context: TaskContext): Promise<FlowEnd> {
    const { order, repositoryId } = context.session;
    const { pointId, bytesPerSecond = 0, periodDays = 0 } = order.kind === 'verify' ? order : { pointId: '' };
    return followMoverOperation(
      context,
      this.repositories,
      {
        start: async (mover, requestId) => {
          const period = pointId === '' && periodDays > 0 ? { period: durationToWire(periodDays * dayMs) } : {};
          const request = { requestId, repositoryId, pointId, bytesPerSecond, ...period };
          return (await mover.repositories.call('StartVerify', request, { deadlineMs: 10_000, attempts: 3 })).operationId;
        },
        watch: (mover, operationId, settings) => mover.repositories.stream('WatchVerify', { operationId }, settings),
        cancel: (mover, operationId, signal) => mover.repositories.call('CancelVerify', { operationId }, { deadlineMs: 10_000, signal }),
        take: ({ progress, result }) => {
          if (progress) this.#read(context, bytesFromWire(progress.checkedBytes, 'checkedBytes'));
          return result ? this.#judge(context, result) : undefined;
        },
      },
      this.retryEveryMs,
    );
  }

  #read(context: TaskContext, readBytes: number): void {
    context.disk('', 'blocks').counters = { ...zeroCounters, readBytes };
    context.touch();
  }

  async #judge(context: TaskContext, result: VerifyResult__Output): Promise<FlowEnd> {
    const { task } = context;
    if (result.failure) throw failureError(result.failure);
    if (result.cancelled) {
      if (context.cancel.aborted) return { state: 'cancelled' };
      throw HostErrors.OPERATION_STOPPED({ operationId: task.id });
    }
    this.#read(context, bytesFromWire(result.checkedBytes, 'checkedBytes'));
    const found = result.findings.slice(0, 1000).map(({ code, pointId, diskId, offsetBytes, objectName, message }) => {
      const offset = offsetBytes === undefined ? null : bytesFromWire(offsetBytes, 'offsetBytes');
      return { code, pointId, diskId, offsetBytes: offset, objectName, message };
    });
    task.findings = await namedFindings(found, this.points);
    const [quarantined, healed, skipped] = [result.quarantinedBlocks, result.healedBlocks, result.skippedPacks].map(Number);
    if (skipped)
      context.note({ code: 'verify-skipped', severity: 'info', diskId: '', message: `${skipped} packs were verified within the period` });
    if (quarantined)
      context.note({
        code: 'verify-quarantined',
        severity: 'warning',
        diskId: '',
        message: `${quarantined} blocks are in quarantine now: the next backup that carries one of them stores it again`,
      });
    if (healed)
      context.note({
        code: 'verify-healed',
        severity: 'info',
        diskId: '',
        message: `${healed} blocks of the quarantine have a good copy now`,
      });
    const findings = Number(result.findingCount);
    if (findings === 0) return { state: 'success' };
    return { state: 'failed', failure: HostErrors.VERIFY_FOUND_DAMAGE({ findings, hurt: hurtText(task.findings) }) };
  }
}
