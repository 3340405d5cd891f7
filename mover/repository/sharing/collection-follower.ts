/**
 * Obeys the collections of whoever maintains the repository: what is condemned is not referred to any more, what was deleted is not looked for.
 * The rules, and why they make deleting safe, are in docs/formats/concurrency.md.
 */
import type { Logger } from '../../../common/log/logger';
import type { Store } from '../../stores/store';
import { readPlans } from './collection-plans';
import { readMaintenance } from './maintenance-lease';
import type { PackIndex } from '../blocks/pack-index';
import type { RepositoryKeys } from '../keys/repository-keys';
import { SerialQueue } from '../serial-queue';

export class CollectionFollower {
  private readonly running = new Set<Promise<unknown>>();
  private readonly steps = new SerialQueue();
  private revision = -1;

  constructor(
    private readonly store: Store,
    private readonly index: PackIndex,
    private readonly keys: RepositoryKeys | undefined,
    private readonly logger: Logger,
  ) {}

  /** See `Repository.referencing`. */
  async referencing<T>(work: () => Promise<T>): Promise<T> {
    const running = work();
    this.running.add(running);
    try {
      return await running;
    } finally {
      this.running.delete(running);
    }
  }

  /** Number of the newest collection that is obeyed from now on, by all work that is still running too. Throws as `Store.read`. */
  obey(): Promise<number> {
    return this.steps.run(async () => {
      // Read before the plans: there may be newer ones among them, which are not acknowledged yet.
      const state = await readMaintenance(this.store);
      if (!state) return 0;
      if (state.revision !== this.revision) {
        const condemned = new Set<string>();
        // What a damaged plan condemned is not known: it is no reason not to restore, but nothing that lies there now may be referred to any more.
        const damaged = (error: unknown) => {
          this.logger.warn('a collection plan is damaged; what is stored already does not count for new backups until it is gone', {
            error,
          });
          for (const id of this.index.packs.ids()) condemned.add(id);
        };
        for await (const plan of readPlans(this.store, this.keys, damaged)) {
          const ids = plan.packs.map(({ id }) => id);
          if (plan.state === 'condemned' || plan.state === 'deleting') for (const id of ids) condemned.add(id);
          if (plan.state === 'done') this.index.dropPacks(ids);
        }
        this.index.packs.setCondemned(condemned);
        await Promise.allSettled([...this.running]);
        this.revision = state.revision;
      }
      return state.newestCollection;
    });
  }
}
