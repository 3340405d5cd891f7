import type { TransferCounters } from '../../proto/gen/tidemark/common/v1/TransferCounters';

const names = ['plannedBytes', 'readBytes', 'transferredBytes', 'storedBytes', 'zeroBytes', 'deduplicatedBytes'] as const;
export type CounterName = (typeof names)[number];

/** Counts of one task in memory that its lanes share. They only grow. */
export class SharedCounters {
  private readonly values: BigInt64Array;

  constructor(readonly shared = new SharedArrayBuffer(names.length * 8)) {
    this.values = new BigInt64Array(shared);
  }

  add(name: CounterName, bytes: number): void {
    Atomics.add(this.values, names.indexOf(name), BigInt(bytes));
  }

  get(name: CounterName): number {
    return Number(Atomics.load(this.values, names.indexOf(name)));
  }

  /** As the contract carries them. */
  toWire(): TransferCounters {
    return Object.fromEntries(names.map((name) => [name, String(this.get(name))]));
  }
}
