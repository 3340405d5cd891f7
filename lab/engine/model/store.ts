import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Entity } from './entities';

/**
 * The engine's database: typed collections in memory, written behind an append log.
 *
 * Files below the data directory: `state.json` (all collections at some moment) and `state.log` (one JSON line per change since:
 * an array of `[collection, id, entity or null]`). A change is written to the log before the caller continues, so a kill -9 at any
 * moment loses nothing that was answered; a torn last line was never answered and is dropped. Opening folds the log into a new
 * snapshot (written aside, fsync, rename), and so does a log that has grown long.
 */

type Change = readonly [collection: string, id: string, entity: Entity | null];
type SnapshotFile = Record<string, Entity[]>;

/** Reading a log of this length takes well below a second. */
const LONGEST_LOG_BYTES = 32 * 1024 * 1024;

export class Store {
  private readonly collections = new Map<string, Collection<Entity>>();
  private readonly loaded = new Map<string, Map<string, Entity>>();
  /** Undefined once closed. */
  private logFile: number | undefined;
  private logBytes = 0;
  private pending: Change[] | undefined;

  constructor(
    private readonly directory: string,
    private readonly longestLogBytes = LONGEST_LOG_BYTES,
  ) {
    mkdirSync(directory, { recursive: true });
    this.load();
    this.logFile = this.compact();
  }

  /** The one collection of that name; entities that were persisted earlier are in it. */
  collection<E extends Entity>(name: string): Collection<E> {
    let collection = this.collections.get(name);
    if (!collection) {
      const entities = this.loaded.get(name) ?? new Map<string, Entity>();
      this.loaded.set(name, entities);
      collection = new Collection<Entity>(name, entities, (id, entity) => {
        this.record([name, id, entity]);
      });
      this.collections.set(name, collection);
    }
    return collection as unknown as Collection<E>;
  }

  /** Everything `work` changes becomes durable together. Synchronous on purpose: no other change can slip in. */
  transaction<T>(work: () => T): T {
    if (this.pending) {
      return work();
    }
    this.pending = [];
    try {
      return work();
    } finally {
      const changes = this.pending;
      this.pending = undefined;
      this.append(changes);
    }
  }

  /** Names and sizes, for the control endpoint. */
  sizes(): Record<string, number> {
    return Object.fromEntries([...this.collections].map(([name, collection]) => [name, collection.size]));
  }

  /** Later changes throw: nothing of a stopped engine may reach the state of its successor. */
  close(): void {
    if (this.logFile !== undefined) {
      closeSync(this.logFile);
      this.logFile = undefined;
    }
  }

  private record(change: Change): void {
    if (this.pending) {
      this.pending.push(change);
    } else {
      this.append([change]);
    }
  }

  private append(changes: readonly Change[]): void {
    if (this.logFile === undefined) {
      throw new Error('the engine was stopped');
    }
    if (changes.length === 0) {
      return;
    }
    this.logBytes += writeSync(this.logFile, `${JSON.stringify(changes)}\n`);
    if (this.logBytes > this.longestLogBytes) {
      closeSync(this.logFile);
      this.logFile = this.compact();
      this.logBytes = 0;
    }
  }

  private load(): void {
    const snapshotPath = join(this.directory, 'state.json');
    if (existsSync(snapshotPath)) {
      for (const [name, entities] of Object.entries(JSON.parse(readFileSync(snapshotPath, 'utf8')) as SnapshotFile)) {
        this.loaded.set(name, new Map(entities.map((entity) => [entity.id, entity])));
      }
    }
    const logPath = join(this.directory, 'state.log');
    if (!existsSync(logPath)) {
      return;
    }
    const lines = readFileSync(logPath, 'utf8').split('\n');
    // Whatever follows the last newline is a torn write.
    for (const line of lines.slice(0, -1)) {
      for (const [name, id, entity] of JSON.parse(line) as Change[]) {
        const collection = this.loaded.get(name) ?? new Map<string, Entity>();
        this.loaded.set(name, collection);
        if (entity) {
          collection.set(id, entity);
        } else {
          collection.delete(id);
        }
      }
    }
  }

  private compact(): number {
    const snapshot = Object.fromEntries([...this.loaded].map(([name, entities]) => [name, [...entities.values()]]));
    const aside = join(this.directory, 'state.json.new');
    const file = openSync(aside, 'w');
    writeSync(file, JSON.stringify(snapshot));
    fsyncSync(file);
    closeSync(file);
    renameSync(aside, join(this.directory, 'state.json'));
    // The log is truncated only now: replaying it over the new snapshot would give the same state.
    return openSync(join(this.directory, 'state.log'), 'w');
  }
}

/** Entities of one kind in insertion order. */
export class Collection<E extends Entity> {
  constructor(
    readonly name: string,
    private readonly entities: Map<string, E>,
    private readonly onChange: (id: string, entity: E | null) => void,
  ) {}

  get size(): number {
    return this.entities.size;
  }

  get(id: string): E | undefined {
    return this.entities.get(id);
  }

  /** For ids that the engine itself holds: a miss is a bug of the simulator. */
  require(id: string): E {
    const entity = this.entities.get(id);
    if (!entity) {
      throw new Error(`no ${this.name} ${id}`);
    }
    return entity;
  }

  has(id: string): boolean {
    return this.entities.has(id);
  }

  list(matches?: (entity: E) => boolean): E[] {
    const all = [...this.entities.values()];
    return matches ? all.filter(matches) : all;
  }

  find(matches: (entity: E) => boolean): E | undefined {
    for (const entity of this.entities.values()) {
      if (matches(entity)) {
        return entity;
      }
    }
    return undefined;
  }

  /** Inserts or replaces. */
  put(entity: E): E {
    this.entities.set(entity.id, entity);
    this.onChange(entity.id, entity);
    return entity;
  }

  /** Replaces some fields; a field given as undefined is removed. Unknown ids are ignored and give undefined. */
  update(id: string, changes: { readonly [K in keyof E]?: E[K] | undefined }): E | undefined {
    const current = this.entities.get(id);
    if (!current) {
      return undefined;
    }
    const merged = Object.fromEntries(Object.entries({ ...current, ...changes }).filter(([, value]) => value !== undefined));
    return this.put(merged as unknown as E);
  }

  delete(id: string): boolean {
    const existed = this.entities.delete(id);
    if (existed) {
      this.onChange(id, null);
    }
    return existed;
  }
}
