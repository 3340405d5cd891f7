/** The movers that write to a repository, as their leases tell it. Keeps what was seen of each, so that one that is gone is found out. */
import type { Store } from '../../stores/store';
import { isGone, parseLease, readLease, watchLease, type LeaseWatch } from './lease-object';
import { WRITER_PREFIX, writerOf } from './writer-lease';

export interface Writer {
  readonly instanceId: string;
  readonly hostName: string;
  /** Released, provably dead, or a whole lease without a sign of life while it was watched from here. */
  readonly isGone: boolean;
  /** For how long its lease was seen unchanged from here. */
  readonly unchangedMs: number;
  /** Number of the newest collection it obeys. */
  readonly acknowledged: number;
}

export class Writers {
  private readonly watches = new Map<string, LeaseWatch>();

  constructor(private readonly store: Store) {}

  /** All that have a lease object, those that are gone included. Call it repeatedly: who is gone elsewhere shows with time. */
  async list(): Promise<Writer[]> {
    const found: Writer[] = [];
    for await (const name of this.store.list(WRITER_PREFIX)) {
      const instanceId = writerOf(name);
      const text = instanceId === undefined ? undefined : await readLease(this.store, name);
      if (instanceId === undefined || text === undefined) continue;
      let watch = this.watches.get(instanceId);
      if (!watch) this.watches.set(instanceId, (watch = { text: '', since: 0 }));
      watchLease(watch, text);
      const content = parseLease(text);
      found.push({
        instanceId,
        hostName: content?.hostName ?? '',
        isGone: isGone(content, watch),
        unchangedMs: performance.now() - watch.since,
        acknowledged: content?.acknowledged ?? 0,
      });
    }
    return found;
  }
}
