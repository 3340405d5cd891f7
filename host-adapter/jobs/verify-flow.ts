import { randomUUID } from 'node:crypto';
import { hasCode } from '../../common/errors/tidemark-error';
import { failureError } from '../../common/rpc/failure-message';
import { bytesFromWire } from '../../common/rpc/bytes';
import { pause } from '../../common/rpc/call';
import type { VerifyResult__Output } from '../../proto/gen/tidemark/mover/v1/VerifyResult';
import { HostErrors } from '../errors/host-errors';
import { Repositories } from '../repositories/repositories';
import type { FlowEnd, TaskFlow } from './flow';
import { isTransient } from './task-context';
import type { TaskContext } from './task-context';
import { zeroCounters } from './task-record';

/** Verifies one point, or a whole repository: the mover reads and compares, this side watches. */
export class VerifyFlow implements TaskFlow {
  constructor(
    private readonly repositories: Repositories,
    private readonly retryEveryMs = 1000,
  ) {}

  async attempt(context: TaskContext): Promise<FlowEnd> {
    const { task, session } = context;
    const pointId = session.order.kind === 'verify' ? session.order.pointId : '';
    const reasonOf = (error: Parameters<typeof Repositories.reasonOf>[0]) =>
      isTransient(error) ? Repositories.reasonOf(error) : undefined;
    await context.enter('preparing');
    for (;;) {
      const mover = await context.patiently(() => this.repositories.mover(session.repositoryId), reasonOf);
      if (task.operationId === null) {
        const request = { requestId: randomUUID(), repositoryId: session.repositoryId, pointId };
        task.operationId = (await mover.repositories.call('StartVerify', request, { deadlineMs: 10_000, attempts: 3 })).operationId;
        task.step = 'started';
      }
      await context.enter('transferring');
      const { operationId } = task;
      const cancel = () => void mover.repositories.call('CancelVerify', { operationId }, { deadlineMs: 10_000 }).catch(() => undefined);
      context.cancel.addEventListener('abort', cancel, { once: true });
      if (context.cancel.aborted) cancel();
      try {
        const settings = { idleTimeoutMs: 30_000, signal: context.shutdown };
        for await (const event of mover.repositories.stream('WatchVerify', { operationId }, settings)) {
          if (event.progress) {
            const disk = context.disk('', 'blocks');
            disk.counters = { ...zeroCounters, readBytes: bytesFromWire(event.progress.checkedBytes, 'checkedBytes') };
            context.touch();
          }
          if (event.result) return this.#judge(context, event.result);
        }
      } catch (error) {
        if (context.shutdown.aborted) throw error;
        if (context.cancel.aborted && isTransient(error)) return { state: 'cancelled' };
        if (hasCode(error, 'OPERATION_NOT_FOUND')) task.operationId = null;
        else if (!isTransient(error)) throw error;
        await context.waiting('repository-mover-lost');
      } finally {
        context.cancel.removeEventListener('abort', cancel);
      }
      await pause(this.retryEveryMs, context.stop);
    }
  }

  #judge(context: TaskContext, result: VerifyResult__Output): FlowEnd {
    const { task } = context;
    task.step = 'waiting';
    task.operationId = null;
    if (result.failure) throw failureError(result.failure);
    if (result.cancelled) {
      if (context.cancel.aborted) return { state: 'cancelled' };
      throw HostErrors.OPERATION_STOPPED({ operationId: task.id });
    }
    context.disk('', 'blocks').counters = { ...zeroCounters, readBytes: bytesFromWire(result.checkedBytes, 'checkedBytes') };
    task.findings = result.findings.slice(0, 1000).map((finding) => ({
      code: finding.code,
      pointId: finding.pointId,
      diskId: finding.diskId,
      offsetBytes: finding.offsetBytes === undefined ? null : bytesFromWire(finding.offsetBytes, 'offsetBytes'),
      objectName: finding.objectName,
      message: finding.message,
    }));
    const findings = Number(result.findingCount);
    return findings === 0 ? { state: 'success' } : { state: 'failed', failure: HostErrors.VERIFY_FOUND_DAMAGE({ findings }) };
  }
}
