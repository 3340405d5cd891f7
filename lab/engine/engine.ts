import { join } from 'node:path';
import type { HostFleet } from '../hosts/driver';
import { registerBehaviours } from './behaviours';
import { FaultPlan } from './control/fault-plan';
import { registerEvents } from './events/events-resource';
import { EventLog } from './events/event-log';
import { JobLog } from './events/job-log';
import { registerJobs } from './events/jobs-resource';
import { DiskService } from './disks/disk-service';
import { injectedFault, type ApiRun } from './http/api-server';
import { Authentication } from './http/authentication';
import { executionFailed } from './http/fault';
import { Routes } from './http/route';
import { registerAffinityGroups } from './inventory/affinity-groups';
import { registerApiRoot } from './inventory/api-root';
import { registerDataCenters } from './inventory/data-centers';
import { registerHosts } from './inventory/hosts';
import { registerNetworks } from './inventory/networks';
import { registerOptions } from './inventory/options';
import { registerProfiles } from './inventory/profiles';
import { registerStorageDomains } from './inventory/storage-domains';
import { registerTags } from './inventory/tags';
import { registerTemplates } from './inventory/templates';
import { registerUsers } from './inventory/users';
import { LockManager } from './locks/lock-manager';
import { EngineClock } from './model/clock';
import type { Captures, Core, EngineLogger } from './model/core';
import { openDatabase } from './model/database';
import { defaultSettings, type EngineSettings } from './model/settings';
import { Store } from './model/store';
import { registerVms } from './vms/vms-resource';

/**
 * The simulated oVirt engine. This folder owns the REST API's behaviour and the engine's memory; it must not know how hosts do
 * their work (that is `lab/hosts` behind `HostFleet`), nor who the clients are. The API itself is oVirt's, version 4.
 *
 * A resource folder exports `register…(routes, core)` and is listed in {@link resources}; the order is that of `onStart`.
 */
export type RegisterResource = (routes: Routes, core: Core) => void;

const resources: readonly RegisterResource[] = [
  registerApiRoot,
  registerDataCenters,
  registerHosts,
  registerStorageDomains,
  registerNetworks,
  registerProfiles,
  registerTemplates,
  registerTags,
  registerAffinityGroups,
  registerUsers,
  registerOptions,
  registerEvents,
  registerJobs,
  (routes, core) => {
    registerVms(routes, core, (diskId) => new DiskService(core).finishRemove(diskId));
  },
  registerBehaviours,
];

export interface EngineOptions {
  readonly fleet: HostFleet;
  /** State lies in `<dataDir>/engine`. */
  readonly dataDir: string;
  readonly settings?: Partial<EngineSettings>;
  readonly log: EngineLogger;
  /** Shared by all runs, so that a restart keeps the rules. */
  readonly faults?: FaultPlan;
  /** Likewise. */
  readonly captures?: Captures;
}

/** One run of the engine, from its start to its stop or restart. */
export interface EngineRun extends ApiRun {
  readonly core: Core;
  /** Looks of {@link Core.inspect}, by name. */
  readonly looks: ReadonlyMap<string, () => unknown>;
  start(): Promise<void>;
  /** Ends timers and forgets locks; hosts and VMs go on. State was durable all along, so this is no different from a crash. */
  stop(): Promise<void>;
}

export function composeEngine(options: EngineOptions): EngineRun {
  const { log } = options;
  const settings = { ...defaultSettings, ...options.settings };
  const faults = options.faults ?? new FaultPlan();
  const store = new Store(join(options.dataDir, 'engine'));
  const db = openDatabase(store);
  let stopped = false;
  const onError = (error: unknown): void => {
    // Work of a run that was stopped fails at its next write, as it should.
    if (!stopped) {
      log.error('background work failed', error);
    }
  };
  const clock = new EngineClock(settings.clockFactor, onError);
  const fleet = fleetOfRun(options.fleet, () => stopped);
  const starters: (() => void | Promise<void>)[] = [];
  const stoppers: (() => void | Promise<void>)[] = [];
  const looks = new Map<string, () => unknown>();
  const core: Core = {
    db,
    clock,
    events: new EventLog(db, clock),
    jobs: new JobLog(db, clock),
    fleet,
    captures: options.captures ?? { folder: undefined },
    workerVms: { clockOffsetSeconds: 0, bootDelaySeconds: 0 },
    locks: new LockManager(),
    settings,
    log,
    onStart: (work) => starters.push(work),
    onStop: (work) => stoppers.push(work),
    background: (work) => {
      work().catch(onError);
    },
    inspect: (name, look) => looks.set(name, look),
    step: async (name, subject = '') => {
      for (const effect of faults.forStep(name, subject)) {
        if (effect.kind === 'delay') {
          await clock.sleep(effect.ms * clock.factor);
        } else {
          throw effect.kind === 'fault' ? injectedFault(effect) : executionFailed('INJECTED');
        }
      }
    },
  };
  const routes = new Routes();
  for (const register of resources) {
    register(routes, core);
  }
  core.inspect('locks', () => core.locks.list());
  return {
    routes,
    core,
    looks,
    clock,
    faults,
    log,
    authentication: new Authentication(db, clock, settings),
    start: async () => {
      for (const work of starters) {
        await work();
      }
    },
    stop: async () => {
      stopped = true;
      clock.stop();
      for (const work of stoppers) {
        await work();
      }
      store.close();
    },
  };
}

/** The fleet outlives the run: listeners of a stopped run hear nothing any more. */
function fleetOfRun(fleet: HostFleet, isStopped: () => boolean): HostFleet {
  return new Proxy(fleet, {
    get: (target, name) => {
      if (name === 'onVmExit') {
        return (listener: (vmId: string) => void): void => {
          target.onVmExit((vmId) => {
            if (!isStopped()) {
              listener(vmId);
            }
          });
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
