/**
 * VMs of all platforms in memory, in list order, and what changed since any recent moment. Memory grows with the number of VMs only: of
 * each VM only its newest change is kept, and removed ones are forgotten, oldest first, beyond a limit.
 */
import { randomUUID } from 'node:crypto';
import { InventoryErrors } from './inventory-errors';
import { compareRecords } from './vm-record';
import type { ListPosition, VmRecord } from './vm-record';

export type InventoryChange =
  | { readonly sequence: number; readonly changed: VmRecord }
  | { readonly sequence: number; readonly removed: { platformId: string; vmId: string } };

interface Entry {
  readonly platformId: string;
  readonly vmId: string;
  readonly sequence: number;
  /** Undefined: removed. */
  readonly record: VmRecord | undefined;
}

export interface Page {
  readonly vms: readonly VmRecord[];
  readonly nextPageToken: string;
}

export class InventoryCache {
  /** By platform and VM; in the order of change, since a changed entry is taken out and put in again. */
  readonly #entries = new Map<string, Entry>();
  readonly #epoch = randomUUID();
  readonly #sorted = new Map<string, readonly VmRecord[]>();
  readonly #waiting = new Set<() => void>();
  #sequence = 0;
  /** Changes up to here may have been forgotten. */
  #forgotten = 0;
  #removedCount = 0;

  constructor(private readonly mostRemoved = 20_000) {}

  /** Position of the newest change. */
  get cursor(): string {
    return this.#cursorAt(this.#sequence);
  }

  get(platformId: string, vmId: string): VmRecord | undefined {
    return this.#entries.get(key(platformId, vmId))?.record;
  }

  vmIds(platformId: string): ReadonlySet<string> {
    return new Set(this.#ordered(platformId).map((record) => record.vmId));
  }

  vmIdsWhere(platformId: string, matches: (record: VmRecord) => boolean): readonly string[] {
    return this.#ordered(platformId)
      .filter(matches)
      .map((record) => record.vmId);
  }

  count(platformId: string): number {
    return this.#ordered(platformId).length;
  }

  /** Takes over what was read; a record equal to the known one is no change. */
  put(records: readonly VmRecord[]): void {
    let changed = false;
    for (const record of records) {
      const known = this.get(record.platformId, record.vmId);
      if (known && JSON.stringify(known) === JSON.stringify(record)) continue;
      this.#set(record.platformId, record.vmId, record);
      changed = true;
    }
    if (changed) this.#wake();
  }

  remove(platformId: string, vmIds: Iterable<string>): void {
    let changed = false;
    for (const vmId of vmIds) {
      if (!this.get(platformId, vmId)) continue;
      this.#set(platformId, vmId, undefined);
      changed = true;
    }
    if (changed) this.#wake();
  }

  /**
   * One page in list order. The token names the last VM of the page before, so that pages stay right while VMs come and go.
   * Throws PAGE_TOKEN_INVALID.
   */
  page(platformId: string, pageSize: number, pageToken: string): Page {
    const ordered = this.#ordered(platformId);
    const from = pageToken === '' ? 0 : firstAfter(ordered, readToken(pageToken, platformId));
    const vms = ordered.slice(from, from + pageSize);
    const last = vms.at(-1);
    return { vms, nextPageToken: last && from + pageSize < ordered.length ? writeToken(platformId, last) : '' };
  }

  /** Changes after the cursor, oldest first; undefined when the cursor is too old or of another run: list again. */
  changesAfter(cursor: string): readonly InventoryChange[] | undefined {
    const [epoch, text] = cursor.split('.');
    const after = Number(text);
    if (epoch !== this.#epoch || !Number.isSafeInteger(after) || after < this.#forgotten || after > this.#sequence) return undefined;
    if (after === this.#sequence) return [];
    const changes: InventoryChange[] = [];
    for (const { sequence, record, platformId, vmId } of this.#entries.values()) {
      if (sequence > after) changes.push(record ? { sequence, changed: record } : { sequence, removed: { platformId, vmId } });
    }
    return changes;
  }

  cursorOf(change: InventoryChange): string {
    return this.#cursorAt(change.sequence);
  }

  /** Resolves with true at the next change, with false after the time or when the signal aborts. */
  waitForChange(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (changed: boolean) => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', stop);
        resolve(changed);
      };
      const wake = () => end(true);
      const stop = () => end(false);
      const timer = setTimeout(stop, timeoutMs);
      this.#waiting.add(wake);
      signal.addEventListener('abort', stop, { once: true });
      if (signal.aborted) stop();
    });
  }

  #set(platformId: string, vmId: string, record: VmRecord | undefined): void {
    const name = key(platformId, vmId);
    const old = this.#entries.get(name);
    if (old && !old.record) this.#removedCount -= 1;
    if (!record) this.#removedCount += 1;
    this.#entries.delete(name);
    this.#sequence += 1;
    this.#entries.set(name, { platformId, vmId, sequence: this.#sequence, record });
    this.#sorted.delete('');
    this.#sorted.delete(platformId);
    if (this.#removedCount > this.mostRemoved) this.#forget();
  }

  #forget(): void {
    for (const [name, entry] of this.#entries) {
      if (this.#removedCount <= this.mostRemoved / 2) return;
      if (entry.record) continue;
      this.#entries.delete(name);
      this.#removedCount -= 1;
      this.#forgotten = Math.max(this.#forgotten, entry.sequence);
    }
  }

  #ordered(platformId: string): readonly VmRecord[] {
    const known = this.#sorted.get(platformId);
    if (known) return known;
    const records: VmRecord[] = [];
    for (const { record } of this.#entries.values())
      if (record && (platformId === '' || record.platformId === platformId)) records.push(record);
    records.sort(compareRecords);
    this.#sorted.set(platformId, records);
    return records;
  }

  #cursorAt(sequence: number): string {
    return `${this.#epoch}.${sequence}`;
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}

function key(platformId: string, vmId: string): string {
  return `${platformId}/${vmId}`;
}

function writeToken(platformId: string, last: VmRecord): string {
  return Buffer.from(JSON.stringify([platformId, last.name, last.vmId, last.platformId])).toString('base64url');
}

function readToken(token: string, platformId: string): ListPosition {
  try {
    const [asked, name, vmId, of] = JSON.parse(Buffer.from(token, 'base64url').toString('utf8')) as unknown[];
    if (asked === platformId && typeof name === 'string' && typeof vmId === 'string' && typeof of === 'string') {
      return { name, vmId, platformId: of };
    }
  } catch {
    // Not one of ours: refused below.
  }
  throw InventoryErrors.PAGE_TOKEN_INVALID({});
}

/** Index of the first record behind `position`, by halving. */
function firstAfter(ordered: readonly VmRecord[], position: ListPosition): number {
  let low = 0;
  let high = ordered.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const record = ordered[middle];
    if (record && compareRecords(record, position) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
