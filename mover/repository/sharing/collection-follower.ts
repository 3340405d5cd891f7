/**
 * Obeys the collections of whoever maintains the repository: what is condemned is not referred to any more, what was deleted is not looked for.
 * The rules, and why they make deleting safe, are in docs/formats/concurrency.md.
 */
import { forEachOf } from '../../../common/flow/for-each-of';
import type { Logger } from '../../../common/log/logger';
import { packName } from '../blocks/pack-table';
import { isThere } from '../../stores/is-there';
import type { Store } from '../../stores/store';
import { readPlans } from './collection-plans';
import { readMaintenance } from './maintenance-lease';
import type { PackIndex } from '../blocks/pack-index';
import type { RepositoryKeys } from '../keys/repository-keys';
import { SerialQueue } from '../../../common/flow/serial-queue';

/** Packs asked for one by one; of more all names are listed, a thousand in a request. */
const askedAtMost = 64;
const asksAtOnce = 8;

export class CollectionFollower {
  private readonly running = new Set<Promise<unknown>>();
  private readonly steps = new SerialQueue();
  private revision = -1;
  /** What was there when a plan was first seen damaged: any of it may be condemned. Packs made later are not. */
  private suspected: ReadonlySet<string> | undefined;

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
        let isDamaged = false;
        const damaged = (error: unknown) => {
          isDamaged = true;
          if (this.suspected) return;
          this.logger.warn(
            'a collection plan is damaged; what is stored already does not count for new backups until a collection settled it',
            {
              error,
            },
          );
          this.suspected = new Set(this.index.packs.ids());
        };
        for await (const plan of readPlans(this.store, this.keys, damaged)) {
          const ids = plan.packs.map(({ id }) => id);
          if (plan.state === 'condemned' || plan.state === 'deleting') for (const id of ids) condemned.add(id);
          if (plan.state === 'done') this.index.dropPacks(ids);
        }
        // What a damaged plan condemned is not known: it is no reason not to restore, but nothing that lay there may be referred to any more.
        if (!isDamaged) this.suspected = undefined;
        for (const id of this.suspected ?? []) condemned.add(id);
        await this.dropDeleted(condemned);
        this.index.packs.setCondemned(condemned);
        await Promise.allSettled([...this.running]);
        // A damaged one is looked at each time: it may have been a bad read.
        this.revision = isDamaged ? -1 : state.revision;
      }
      return state.newestCollection;
    });
  }

  /** Packs that were condemned and are not any more count again only when they are there: the plan that would say that they were deleted may be lost. */
  private async dropDeleted(condemned: ReadonlySet<string>): Promise<void> {
    const { packs } = this.index;
    const released = packs.condemnedIds().filter((id) => !condemned.has(id) && packs.numberOf(id) !== undefined);
    if (released.length === 0) return;
    const listed = released.length > askedAtMost ? await this.index.listed() : undefined;
    const gone: string[] = [];
    await forEachOf(released, asksAtOnce, async (id) => {
      if (!(listed ? listed.has(id) : await isThere(this.store, packName(id)))) gone.push(id);
    });
    this.index.dropPacks(gone);
  }
}
