/** Verifications as operations, and what is known of packs that were verified. */
import type { Logger } from '../../common/log/logger';
import type { Repository } from '../repository/repository';
import { SerialQueue } from '../../common/flow/serial-queue';
import { Operations, type Operation } from './operations';
import { VerifyLedger } from './verify-ledger';
import { Verifier } from './verifier';

/** How it is to be done; both a period only for all points. */
export interface VerifyPace {
  /** 0: no limit. */
  readonly bytesPerSecond: number;
  /** Packs verified less than this ago are left alone; 0: none are. */
  readonly periodMs: number;
}

/** One verification; all points when it has none. */
export interface VerifyWork {
  readonly pointId: string | undefined;
  readonly verifier: Verifier;
}

export type VerifyOperation = Operation<VerifyWork>;

export class VerifyOperations {
  private readonly operations: Operations<VerifyWork>;
  private readonly ledgers = new Map<Repository, VerifyLedger>();
  /** One of each at a time: a run over everything takes days, and somebody waits for the one over a point. One without a rate fills a core. */
  private readonly turns = { everything: new SerialQueue(), point: new SerialQueue() };

  /** `ledgerFolder`: where it is noted which packs were verified. */
  constructor(
    private readonly logger: Logger,
    private readonly ledgerFolder: string,
  ) {
    this.operations = new Operations('verification', logger, ({ verifier: { progress, findingCount } }) => ({ ...progress, findingCount }));
  }

  /** Starts, or answers the one of the same request id. Throws REQUEST_ID_REUSED, POINT_NOT_FOUND. */
  start(
    requestId: string,
    repository: Repository,
    pointId: string | undefined,
    pace: VerifyPace = { bytesPerSecond: 0, periodMs: 0 },
  ): VerifyOperation {
    return this.operations.start({
      requestId,
      repository,
      isSame: (work) => work.pointId === pointId,
      make: (signal) => ({
        pointId,
        verifier: new Verifier(repository, signal, { ...pace, ledger: this.ledgerOf(repository), logger: this.logger }),
      }),
      run: ({ verifier }) => verifier.run(pointId),
      turn: pointId === undefined ? this.turns.everything : this.turns.point,
    });
  }

  /** Throws OPERATION_NOT_FOUND. */
  get(operationId: string): VerifyOperation {
    return this.operations.get(operationId);
  }

  cancel(operationId: string): void {
    this.operations.cancel(operationId);
  }

  /** Cancels everything, or everything of one repository, and waits for its end. */
  async stop(repository?: Repository): Promise<void> {
    await this.operations.stop(repository);
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
}
