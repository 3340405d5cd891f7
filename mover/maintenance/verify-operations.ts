/** Verifications as operations: started once per request id, watched from anywhere, cancelled, kept for an hour after their end. */
import { randomUUID } from 'node:crypto';
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import { hasCode, type TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { Repository } from '../repository/repository';
import { Verifier } from './verifier';

const keepMs = 60 * 60 * 1000;
/** Verifications that run at once; more wait. One saturates a core. */
const maxRunning = 1;

export interface VerifyOperation {
  readonly operationId: string;
  readonly requestId: string;
  readonly repository: Repository;
  readonly pointId: string | undefined;
  readonly verifier: Verifier;
  readonly aborter: AbortController;
  /** Resolves when it has ended, in whatever way. */
  done: Promise<void>;
  ended: boolean;
  cancelled: boolean;
  failure: TidemarkError | undefined;
}

export class VerifyOperations {
  private readonly operations = new Map<string, VerifyOperation>();
  private running = 0;
  private readonly queue: (() => void)[] = [];

  constructor(private readonly logger: Logger) {}

  /** Starts, or answers the one of the same request id. Throws REQUEST_ID_REUSED, POINT_NOT_FOUND. */
  start(requestId: string, repository: Repository, pointId: string | undefined): VerifyOperation {
    for (const operation of this.operations.values()) {
      if (operation.requestId !== requestId) continue;
      if (operation.repository === repository && operation.pointId === pointId) return operation;
      throw CommonErrors.REQUEST_ID_REUSED({ requestId });
    }
    const aborter = new AbortController();
    const operation: VerifyOperation = {
      operationId: randomUUID(),
      requestId,
      repository,
      pointId,
      verifier: new Verifier(repository, aborter.signal),
      aborter,
      done: Promise.resolve(),
      ended: false,
      cancelled: false,
      failure: undefined,
    };
    this.operations.set(operation.operationId, operation);
    operation.done = this.run(operation);
    return operation;
  }

  /** Throws OPERATION_NOT_FOUND. */
  get(operationId: string): VerifyOperation {
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

  private async run(operation: VerifyOperation): Promise<void> {
    if (this.running >= maxRunning) await new Promise<void>((resolve) => this.queue.push(resolve));
    this.running++;
    try {
      await operation.verifier.run(operation.pointId);
    } catch (error) {
      if (hasCode(error, 'CANCELLED')) operation.cancelled = true;
      else operation.failure = toTidemarkError(error, 'verification');
    } finally {
      this.running--;
      this.queue.shift()?.();
      operation.ended = true;
      const { progress } = operation.verifier;
      this.logger.info('verification ended', { operationId: operation.operationId, ...progress, failure: operation.failure?.code });
      setTimeout(() => this.operations.delete(operation.operationId), keepMs).unref();
    }
  }
}
