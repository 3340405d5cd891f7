import { join } from 'node:path';
import type { HostFleet } from '../hosts/driver';
import { EventLog } from './events/event-log';
import { JobLog } from './events/job-log';
import { Routes } from './http/route';
import { LockManager } from './locks/lock-manager';
import { EngineClock } from './model/clock';
import type { Core, EngineLogger } from './model/core';
import { openDatabase } from './model/database';
import { defaultSettings, type EngineSettings } from './model/settings';
import { Store } from './model/store';

/**
 * The simulated oVirt engine. This folder owns the REST API's behaviour and the engine's memory; it must not know how hosts do
 * their work (that is `lab/hosts` behind `HostFleet`). The API is described in docs/… of oVirt; what we rely on is in the
 * engine's own sources, see each folder's header.
 *
 * A resource folder exports `register…(routes, core)` and is listed in {@link resources}.
 */
export type RegisterResource = (routes: Routes, core: Core) => void;

const resources: readonly RegisterResource[] = [
  // inventory, vms, events: entry and lists
  // disks, snapshots, backups, transfers, power, locks: behaviours
];

export interface EngineOptions {
  readonly fleet: HostFleet;
  /** State lies in `<dataDir>/engine`. */
  readonly dataDir: string;
  readonly settings?: Partial<EngineSettings>;
  readonly log: EngineLogger;
}

/** Wires one run of the engine. */
export function composeEngine(options: EngineOptions): {
  readonly routes: Routes;
  readonly core: Core;
  start(): Promise<void>;
  stop(): Promise<void>;
} {
  const { log } = options;
  const settings = { ...defaultSettings, ...options.settings };
  const store = new Store(join(options.dataDir, 'engine'));
  const db = openDatabase(store);
  const clock = new EngineClock(settings.clockFactor, (error) => {
    log.error('background work failed', error);
  });
  const starters: (() => void | Promise<void>)[] = [];
  const stoppers: (() => void | Promise<void>)[] = [];
  const looks = new Map<string, () => unknown>();
  const core: Core = {
    db,
    clock,
    events: new EventLog(db, clock),
    jobs: new JobLog(db, clock),
    fleet: options.fleet,
    locks: new LockManager(),
    settings,
    log,
    onStart: (work) => starters.push(work),
    onStop: (work) => stoppers.push(work),
    background: (work) => {
      work().catch((error: unknown) => {
        log.error('background work failed', error);
      });
    },
    inspect: (name, look) => looks.set(name, look),
    step: () => Promise.resolve(),
  };
  const routes = new Routes();
  for (const register of resources) {
    register(routes, core);
  }
  return {
    routes,
    core,
    start: async () => {
      for (const work of starters) {
        await work();
      }
    },
    stop: async () => {
      clock.stop();
      for (const work of stoppers) {
        await work();
      }
      store.close();
    },
  };
}
