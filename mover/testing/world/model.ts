/** What must be in the repository, what happened to it, and the dice: shared by all parts of a world. */
import fs from 'node:fs';
import path from 'node:path';
import type { CollectSettings } from '../../maintenance/collect/collect-settings';
import { randomFrom, sampleBlock } from '../test-disk';
import type { TestRepositoryOptions } from '../test-repository';

export const blockSize = 65_536;
/** Two leaf pages and a root. */
export const diskBlocks = 300;
export const sizeBytes = diskBlocks * blockSize;

/** Block to seed of its content; absent: zero. */
export type Content = ReadonlyMap<number, number>;

export interface ModelPoint {
  readonly content: Content;
  /** `unsure`: the mover died while it made, removed or took it back. */
  state: 'live' | 'removed' | 'unsure';
}

export interface WorldOptions {
  readonly seed: number;
  /** Absent: in the clear. */
  readonly key?: TestRepositoryOptions['key'];
  readonly settings?: Partial<CollectSettings>;
}

const blocks = new Map<number, Buffer>();

export function blockOf(seed: number): Buffer {
  let block = blocks.get(seed);
  if (!block) blocks.set(seed, (block = sampleBlock(seed, blockSize)));
  return block;
}

export class WorldModel {
  readonly points = new Map<string, ModelPoint>();
  /** What happened, for whoever has to understand a failure. */
  readonly log: string[] = [];
  readonly counts = new Map<string, number>();
  readonly random: () => number;
  /** How far maintenance is ahead of the clock. */
  clockMs = 0;
  /** Since the last look at everything. */
  someoneDied = false;
  /** Something of maintenance was damaged since a collection last ended well. */
  isDamaged = false;

  constructor(
    readonly folder: string,
    readonly options: WorldOptions,
  ) {
    this.random = randomFrom(options.seed);
  }

  anyPoint(state: ModelPoint['state']): [string, ModelPoint] | undefined {
    const found = [...this.points].filter(([, point]) => point.state === state);
    // Sometimes without a base.
    return found[Math.floor(this.random() * (found.length + (found.length < 7 ? 1 : 0)))];
  }

  /** Names of objects below a folder of the repository. */
  files(folder: string): string[] {
    const root = this.fileOf(folder);
    if (!fs.existsSync(root)) return [];
    const names = fs.readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    return names.map((entry) => path.relative(this.fileOf(''), path.join(entry.parentPath, entry.name)));
  }

  fileOf(name: string): string {
    return path.join(this.folder, 'repository', name);
  }

  count(what: string, by: number): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + by);
  }

  /** Tells and counts. */
  note(who: string, what: string): void {
    this.tell(`${who}: ${what}`);
    this.count(what.replace(/ \d+$/, ''), 1);
  }

  tell(what: string): void {
    this.log.push(what);
    if (this.log.length > 60) this.log.shift();
  }

  assertSame<T>(found: ReadonlySet<T>, expected: ReadonlySet<T>, what: string): void {
    const lost = [...expected].filter((one) => !found.has(one));
    const foreign = [...found].filter((one) => !expected.has(one));
    if (lost.length + foreign.length === 0) return;
    throw this.failure(
      `${what}: ${lost.length} lost (${lost.slice(0, 3).join()}), ${foreign.length} foreign (${foreign.slice(0, 3).join()})`,
    );
  }

  failure(problem: string): Error {
    return new Error(`seed ${this.options.seed}: ${problem}\n${this.log.join('\n')}`);
  }
}
