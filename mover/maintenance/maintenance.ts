/** What a mover does to maintain the repositories that it has attached: removing points, collecting, and taking both back. */
import type { Logger } from '../../common/log/logger';
import type { PointRecord } from '../format/manifest';
import type { MaintenanceLease } from '../repository/sharing/maintenance-lease';
import type { Repository } from '../repository/repository';
import { SerialQueue } from '../../common/flow/serial-queue';
import type { CollectContext } from './collect/collect-context';
import { Collection, type CollectRequest } from './collect/collection';
import { defaultCollectSettings, type CollectSettings } from './collect/collect-settings';
import { MaintenanceMemory } from './collect/maintenance-memory';
import { PlanBook } from './collect/plan-book';
import { removePoint, undoRemovePoint } from './collect/point-removal';
import { Operations, type Operation } from './operations';

export type CollectOperation = Operation<Collection>;

export interface MaintenanceOptions {
  readonly settings?: Partial<CollectSettings>;
  readonly now?: () => number;
}

export class Maintenance {
  private readonly operations: Operations<Collection>;
  private readonly context: CollectContext;
  /** Of each repository one collection at a time: the others wait for it rather than being refused. */
  private readonly turns = new WeakMap<Repository, SerialQueue>();

  constructor(
    private readonly logger: Logger,
    { settings, now = Date.now }: MaintenanceOptions = {},
  ) {
    this.operations = new Operations('collection', logger, ({ progress }) => progress.totals);
    this.context = {
      settings: { ...defaultCollectSettings, ...settings },
      memory: new MaintenanceMemory(),
      logger,
      now,
    };
  }

  /** See `removePoint` of point-removal.ts. */
  removePoint(repository: Repository, pointId: string): Promise<Date> {
    return removePoint(repository, pointId, new Date(this.context.now()));
  }

  /** See `undoRemovePoint` of point-removal.ts. Throws MAINTENANCE_BUSY too. */
  undoRemovePoint(repository: Repository, pointId: string): Promise<PointRecord> {
    return this.holding(repository, (lease) => undoRemovePoint(repository, lease, pointId, this.context.now));
  }

  /** Takes back everything that is condemned and not being deleted. Throws MAINTENANCE_BUSY, MAINTENANCE_LOST. */
  undoCollect(repository: Repository): Promise<{ packs: number; bytes: number }> {
    return this.holding(repository, async (lease) => (await PlanBook.open(repository, lease, this.context.now)).undo());
  }

  /** Starts a collection, or answers the one of the same request id. Throws REQUEST_ID_REUSED; the rest is the operation's failure. */
  startCollect(requestId: string, repository: Repository, request: CollectRequest): CollectOperation {
    return this.operations.start({
      requestId,
      repository,
      isSame: ({ request: other }) => other.dryRun === request.dryRun && other.graceMs === request.graceMs,
      make: (signal) => new Collection(repository, request, this.context, signal),
      run: (collection) => collection.run(),
      turn: this.turnOf(repository),
    });
  }

  /** Throws OPERATION_NOT_FOUND. */
  get(operationId: string): CollectOperation {
    return this.operations.get(operationId);
  }

  cancel(operationId: string): void {
    this.operations.cancel(operationId);
  }

  /** Cancels all collections, or those of one repository, and waits for their end. */
  stop(repository?: Repository): Promise<void> {
    return this.operations.stop(repository);
  }

  private async holding<T>(repository: Repository, work: (lease: MaintenanceLease) => Promise<T>): Promise<T> {
    const { memory, settings } = this.context;
    await repository.assertWritable();
    const lease = await memory.lease(repository, settings.leaseDurationMs, this.logger);
    try {
      return await work(lease);
    } finally {
      await lease.release();
    }
  }

  private turnOf(repository: Repository): SerialQueue {
    let turn = this.turns.get(repository);
    if (!turn) this.turns.set(repository, (turn = new SerialQueue()));
    return turn;
  }
}
