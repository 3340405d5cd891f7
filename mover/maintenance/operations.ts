/** Long work on repositories as operations: started once per request id, watched from anywhere, cancelled, kept for an hour after their end. */
import { randomUUID } from 'node:crypto';
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import { hasCode, type TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { Repository } from '../repository/repository';
import type { SerialQueue } from '../../common/flow/serial-queue';

const keepMs = 60 * 60 * 1000;

export interface Operation<W> {
  readonly operationId: string;
  readonly requestId: string;
  readonly repository: Repository;
  /** Does it, and knows how far it is. */
  readonly work: W;
  readonly aborter: AbortController;
  /** Resolves when it has ended, in whatever way. */
  done: Promise<void>;
  ended: boolean;
  cancelled: boolean;
  failure: TidemarkError | undefined;
}

/** One that is to be started. */
export interface OperationStart<W> {
  readonly requestId: string;
  readonly repository: Repository;
  /** True for an operation that was started by the same request. */
  readonly isSame: (work: W) => boolean;
  readonly make: (signal: AbortSignal) => W;
  readonly run: (work: W) => Promise<void>;
  /** Those of one queue run one after the other. */
  readonly turn: SerialQueue;
}

export class Operations<W> {
  private readonly operations = new Map<string, Operation<W>>();

  /** `what`: the kind of work, for logs and failures; `describe`: what the log says of one that has ended. */
  constructor(
    private readonly what: string,
    private readonly logger: Logger,
    private readonly describe: (work: W) => object,
  ) {}

  /** Starts, or answers the one of the same request id. Throws REQUEST_ID_REUSED. */
  start({ requestId, repository, isSame, make, run, turn }: OperationStart<W>): Operation<W> {
    for (const operation of this.operations.values()) {
      if (operation.requestId !== requestId) continue;
      if (operation.repository === repository && isSame(operation.work)) return operation;
      throw CommonErrors.REQUEST_ID_REUSED({ requestId });
    }
    const aborter = new AbortController();
    const operation: Operation<W> = {
      operationId: randomUUID(),
      requestId,
      repository,
      work: make(aborter.signal),
      aborter,
      done: Promise.resolve(),
      ended: false,
      cancelled: false,
      failure: undefined,
    };
    this.operations.set(operation.operationId, operation);
    const work = (begin: () => boolean) => turn.run(async () => (begin() ? run(operation.work) : undefined));
    operation.done = this.run(operation, () => this.beforeCancelled(aborter.signal, work));
    return operation;
  }

  /** Throws OPERATION_NOT_FOUND. */
  get(operationId: string): Operation<W> {
    const operation = this.operations.get(operationId);
    if (!operation) throw CommonErrors.OPERATION_NOT_FOUND({ operationId });
    return operation;
  }

  cancel(operationId: string): void {
    this.operations.get(operationId)?.aborter.abort();
  }

  /** Cancels everything, or everything of one repository, and waits for its end. */
  async stop(repository?: Repository): Promise<void> {
    const concerned = [...this.operations.values()].filter((o) => repository === undefined || o.repository === repository);
    for (const operation of concerned) operation.aborter.abort();
    await Promise.all(concerned.map((o) => o.done));
  }

  private async run(operation: Operation<W>, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (hasCode(error, 'CANCELLED')) operation.cancelled = true;
      else operation.failure = toTidemarkError(error, this.what);
    } finally {
      operation.ended = true;
      const { operationId, cancelled, failure } = operation;
      this.logger.info(`${this.what} ended`, { operationId, cancelled, failure: failure?.code, ...this.describe(operation.work) });
      setTimeout(() => this.operations.delete(operationId), keepMs).unref();
    }
  }

  /** Work that waits for its turn is over at once when it is cancelled; `begin` says whether it may still begin. */
  private beforeCancelled(signal: AbortSignal, work: (begin: () => boolean) => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      let begun = false;
      const cancel = () => {
        if (!begun) reject(CommonErrors.CANCELLED({ what: this.what }));
      };
      signal.addEventListener('abort', cancel, { once: true });
      const begin = () => {
        begun = !signal.aborted;
        return begun;
      };
      work(begin).then(resolve, reject);
    });
  }
}
