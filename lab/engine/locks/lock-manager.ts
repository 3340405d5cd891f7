/**
 * The engine's in-memory object locks: who holds which object, shared or alone, and which fault others get meanwhile.
 *
 * Not stored: after a restart each command that is still running takes its locks again from its stored state. It knows
 * nothing of what the objects are; a lock's name is only compared.
 *
 * Source: reference "oVirt engine REST API" sections 4.5, 5.3 and 6.5.
 */
import type { Refusal } from '../states/refusals';

export type LockName = `vm:${string}` | `disk:${string}` | `checkpoints:${string}`;

export interface LockRequest {
  /** Id of the command's entity; one holder may take more locks later. */
  readonly holder: string;
  /** Name of the engine message that others get with 409. */
  readonly message: Refusal;
  readonly exclusive?: readonly LockName[];
  readonly shared?: readonly LockName[];
}

interface Hold {
  readonly holder: string;
  readonly message: Refusal;
  readonly exclusive: boolean;
}

export class LockManager {
  private readonly holds = new Map<LockName, Hold[]>();

  /** All or nothing. Undefined when taken, otherwise the message of the holder that stands in the way. */
  tryAcquire(request: LockRequest): Refusal | undefined {
    const exclusive = request.exclusive ?? [];
    const shared = request.shared ?? [];
    for (const name of exclusive) {
      const other = this.others(name, request.holder)[0];
      if (other !== undefined) return other.message;
    }
    for (const name of shared) {
      const other = this.others(name, request.holder).find((hold) => hold.exclusive);
      if (other !== undefined) return other.message;
    }
    for (const name of exclusive) this.add(name, { holder: request.holder, message: request.message, exclusive: true });
    for (const name of shared) this.add(name, { holder: request.holder, message: request.message, exclusive: false });
    return undefined;
  }

  /** The message of whoever keeps `name` from being taken, were it asked for now by somebody who holds nothing. */
  blocker(name: LockName, exclusive: boolean, ignoreHolder?: string): Refusal | undefined {
    const others = this.others(name, ignoreHolder);
    return (exclusive ? others[0] : others.find((hold) => hold.exclusive))?.message;
  }

  release(holder: string): void {
    for (const [name, holds] of this.holds) {
      const rest = holds.filter((hold) => hold.holder !== holder);
      if (rest.length === 0) this.holds.delete(name);
      else this.holds.set(name, rest);
    }
  }

  /** For the control endpoint and tests: every lock with its holders. */
  list(): { readonly name: LockName; readonly holder: string; readonly message: Refusal; readonly exclusive: boolean }[] {
    return [...this.holds].flatMap(([name, holds]) => holds.map((hold) => ({ name, ...hold })));
  }

  private others(name: LockName, holder: string | undefined): Hold[] {
    return (this.holds.get(name) ?? []).filter((hold) => hold.holder !== holder);
  }

  private add(name: LockName, hold: Hold): void {
    const holds = this.holds.get(name) ?? [];
    this.holds.set(name, [...holds.filter((other) => other.holder !== hold.holder), hold]);
  }
}
