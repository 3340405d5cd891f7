import { toTidemarkError } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { withCorrelation } from '../../common/log/correlation';
import type { Logger } from '../../common/log/logger';
import { pause } from '../../common/rpc/call';
import type { TaskFlow } from './flow';
import { decideRetry } from './retry-policy';
import { storedFailure } from './task-context';
import type { TaskContext } from './task-context';
import { isFinal } from './task-machine';
import type { FinalState } from './task-machine';

/** Takes a task through its tries to a final state. Rejects only when the server stops; then the task stays as it is. */
export class TaskRunner {
  constructor(
    private readonly logger: Logger,
    private readonly random: () => number = Math.random,
  ) {}

  run(context: TaskContext, flow: TaskFlow): Promise<void> {
    const { task, session } = context;
    const correlation = { correlationId: task.id, jobName: session.jobName, sessionId: session.id, taskId: task.id };
    return withCorrelation(correlation, () => this.#tries(context, flow));
  }

  async #tries(context: TaskContext, flow: TaskFlow): Promise<void> {
    const { task } = context;
    while (!isFinal(task.state)) {
      try {
        // A server that was killed between two tries leaves the state of the last one.
        if (task.step === 'waiting' && task.state !== 'queued') await context.enter('queued', task.waitingReason);
        if (task.nextAttemptAt !== null) await this.#untilNextAttempt(context);
        if (context.cancel.aborted && task.step === 'waiting') {
          await this.#end(context, 'cancelled');
          return;
        }
        const end = await flow.attempt(context);
        await this.#end(context, end.state, end.failure);
      } catch (thrown) {
        if (context.shutdown.aborted) throw thrown;
        await this.#failed(context, toTidemarkError(thrown, `task ${task.id}`));
      } finally {
        context.close();
      }
    }
  }

  async #untilNextAttempt(context: TaskContext): Promise<void> {
    const { task } = context;
    const waitMs = Date.parse(task.nextAttemptAt ?? '') - context.now().getTime();
    if (waitMs > 0) await pause(waitMs, context.stop);
    task.nextAttemptAt = null;
    task.waitingReason = null;
    task.attempt += 1;
    await context.save();
  }

  async #failed(context: TaskContext, error: TidemarkError): Promise<void> {
    const { task } = context;
    if (context.cancel.aborted) return this.#end(context, 'cancelled');
    if (error.kind === 'bug') this.logger.error('a task failed by a defect', { error });
    const retry = decideRetry(error, task.attempt, context.settings.current, this.random());
    if (!retry) return this.#end(context, 'failed', error);
    this.logger.warn('a task is tried again', { code: error.code, attempt: task.attempt, delayMs: retry.delayMs });
    task.failure = storedFailure(error);
    task.forceFull ||= retry.forceFull;
    task.nextAttemptAt = new Date(context.now().getTime() + retry.delayMs).toISOString();
    task.state = 'queued';
    task.waitingReason = 'retry-wait';
    await context.save();
  }

  /** A run that is well but for something that somebody should look at is told as such: whoever made the note, plug-in or server. */
  async #end(context: TaskContext, found: FinalState, failure?: TidemarkError): Promise<void> {
    const { task } = context;
    const state = found === 'success' && task.notes.some(({ severity }) => severity !== 'info') ? 'warning' : found;
    task.failure = failure ? storedFailure(failure) : null;
    task.step = 'ended';
    task.nextAttemptAt = null;
    task.endedAt = context.now().toISOString();
    await context.enter(state);
    this.logger.info('task ended', { state, code: failure?.code, vmId: task.vmId });
  }
}
