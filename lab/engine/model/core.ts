import type { HostFleet } from '../../hosts/driver';
import type { EventLog } from '../events/event-log';
import type { JobLog } from '../events/job-log';
import type { LockManager } from '../locks/lock-manager';
import type { EngineClock } from './clock';
import type { Database } from './database';
import type { EngineSettings } from './settings';

/** What every resource of the engine works with. One per engine run: a restart of the engine makes a new one over the same data. */
export interface Core {
  readonly db: Database;
  readonly clock: EngineClock;
  readonly events: EventLog;
  readonly jobs: JobLog;
  readonly fleet: HostFleet;
  readonly captures: Captures;
  readonly workerVms: WorkerVmFaults;
  /** In-memory object locks; empty after a restart until running commands took theirs again. */
  readonly locks: LockManager;
  readonly settings: EngineSettings;
  readonly log: EngineLogger;
  /** Runs once all resources have registered and before requests are served: resume what was going on, in order of registration. */
  onStart(work: () => void | Promise<void>): void;
  /** Runs when the engine stops (not on kill -9): detach listeners. Timers of {@link clock} are ended anyway. */
  onStop(work: () => void | Promise<void>): void;
  /** Work that goes on after the answer; its failure is logged. */
  background(work: () => Promise<void>): void;
  /** What the control endpoint shows as internal state (locks, pollers …); called at each look. */
  inspect(name: string, look: () => unknown): void;
  /** Steps that the control endpoint can break: throws the injected fault or waits, otherwise does nothing. E.g. `step('backup.redefine')`. */
  step(name: string, subject?: string): Promise<void>;
}

/**
 * A second, independent reader for tests: while `folder` is set, each disk of a backup is copied to `<folder>/<backup>/<disk>.raw` by
 * qemu-img before its transfer starts, or before a snapshot of it is plugged into a VM (the description lies beside it), so that a client's copy can be compared with the engine's point in time although the guest writes on.
 */
export interface Captures {
  folder: string | undefined;
}

/** A lab's faults of worker VMs that start from now on. */
export interface WorkerVmFaults {
  clockOffsetSeconds: number;
  /** The next one that starts comes up so much later; once. */
  bootDelaySeconds: number;
}

export interface EngineLogger {
  info(text: string, fields?: Readonly<Record<string, unknown>>): void;
  error(text: string, error: unknown): void;
}
