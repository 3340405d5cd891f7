import { defaultPlacementPolicy } from './beside-server-only';
import type { Expectation, PlacementPolicy, WorkerSupply, WorkerVm } from '../workers/ports';
import type { Placement } from '../workers/tasks';

/** A supply whose rules and prospects the test changes. */
export class FakeSupply implements WorkerSupply {
  readonly wanted: Placement[] = [];
  readonly vms = new Map<string, WorkerVm>();
  readonly notAdmitted = new Set<string>();
  #policy: PlacementPolicy = defaultPlacementPolicy;
  #expectation: Expectation = { kind: 'none', code: 'CLUSTER_FULL', message: 'no host of the cluster has room' };
  readonly #listeners = new Set<() => void>();

  policy(): PlacementPolicy {
    return this.#policy;
  }

  want(placement: Placement): Expectation {
    this.wanted.push(placement);
    return this.#expectation;
  }

  admits(workerId: string): boolean {
    return !this.notAdmitted.has(workerId);
  }

  vmOf(workerId: string): WorkerVm | undefined {
    return this.vms.get(workerId);
  }

  onChanged(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  rule(policy: Partial<PlacementPolicy>): void {
    this.#policy = { ...this.#policy, ...policy };
    this.changed();
  }

  expect(expectation: Expectation): void {
    this.#expectation = expectation;
    this.changed();
  }

  changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
