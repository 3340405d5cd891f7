/** Verifications as operations: started once per request id, watched from anywhere, cancelled, kept for an hour after their end. */
import { randomUUID } from 'node:crypto';
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import { hasCode, type TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { Repository } from '../repository/repository';
import { SerialQueue } from '../repository/serial-queue';
import { VerifyLedger } from './verify-ledger';
import { Verifier } from './verifier';

const keepMs = 60 * 60 * 1000;
/** How it is to be done; both a period only for all points. */
export interface VerifyPace {
  /** 0: no limit. */
  readonly bytesPerSecond: number;
  /** Packs verified less than this ago are left alone; 0: none are. */
  readonly periodMs: number;
}

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
  private readonly ledgers = new Map<Repository, VerifyLedger>();
  /** One of each at a time: a run over everything takes days, and somebody waits for the one over a point. One without a rate fills a core. */
  private readonly turns = { everything: new SerialQueue(), point: new SerialQueue() };

  /** `ledgerFolder`: where it is noted which packs were verified. */
  constructor(
    private readonly logger: Logger,
    private readonly ledgerFolder: string,
  ) {}

  /** Starts, or answers the one of the same request id. Throws REQUEST_ID_REUSED, POINT_NOT_FOUND. */
  start(
    requestId: string,
    repository: Repository,
    pointId: string | undefined,
    pace: VerifyPace = { bytesPerSecond: 0, periodMs: 0 },
  ): VerifyOperation {
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
      verifier: new Verifier(repository, aborter.signal, { ...pace, ledger: this.ledgerOf(repository), logger: this.logger }),
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
    for (const [of, ledger] of this.ledgers) {
      if (repository !== undefined && of !== repository) continue;
      ledger.close();
      this.ledgers.delete(of);
    }
  }

  /** The oldest time at which a pack was last verified here; undefined while some never were. */
  verifiedSince(repository: Repository): Date | undefined {
    return this.ledgerOf(repository).since(repository.index.packs.ids());
  }

  private ledgerOf(repository: Repository): VerifyLedger {
    let ledger = this.ledgers.get(repository);
    if (!ledger) {
      const { packs } = repository.index;
      ledger = VerifyLedger.open(this.ledgerFolder, repository.id, (id) => packs.numberOf(id) !== undefined);
      this.ledgers.set(repository, ledger);
    }
    return ledger;
  }

  private async run(operation: VerifyOperation): Promise<void> {
    const turn = operation.pointId === undefined ? this.turns.everything : this.turns.point;
    try {
      const { signal } = operation.aborter;
      await beforeCancelled(signal, (begin) => turn.run(async () => (begin() ? operation.verifier.run(operation.pointId) : undefined)));
    } catch (error) {
      if (hasCode(error, 'CANCELLED')) operation.cancelled = true;
      else operation.failure = toTidemarkError(error, 'verification');
    } finally {
      operation.ended = true;
      const { progress, findingCount } = operation.verifier;
      this.logger.info('verification ended', {
        operationId: operation.operationId,
        ...progress,
        findingCount,
        failure: operation.failure?.code,
      });
      setTimeout(() => this.operations.delete(operation.operationId), keepMs).unref();
    }
  }
}

/** Work that waits for its turn is over at once when it is cancelled; `begin` says whether it may still begin. */
function beforeCancelled(signal: AbortSignal, work: (begin: () => boolean) => Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    let begun = false;
    const cancel = () => {
      if (!begun) reject(CommonErrors.CANCELLED({ what: 'verification' }));
    };
    signal.addEventListener('abort', cancel, { once: true });
    const begin = () => {
      begun = !signal.aborted;
      return begun;
    };
    work(begin).then(resolve, reject);
  });
}
