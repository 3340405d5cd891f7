/**
 * Where the two halves of the plug-in meet: platforms, inventory and the host on one side, protection (operations, workers, janitor) on
 * the other. composition.ts wires them with these tokens; neither half imports the other's folders for more than types.
 */
import type { Server } from '@grpc/grpc-js';
import type { Service } from '../common/lifecycle/lifecycle';
import type { ServeOptions } from '../common/rpc/serve';
import type { Engine } from './engine/engine';
import type { ConnectedWorkers } from './workers/ports';

/** The connected engines; served by platforms. */
export interface Engines {
  /** Throws PLATFORM_NOT_FOUND. The same object until the platform is connected anew. */
  of(platformId: string): Engine;
  platformIds(): readonly string[];
}

export type ReportedSeverity = 'info' | 'warning' | 'error';

/** Something the host should show. */
export interface ReportedEvent {
  readonly severity: ReportedSeverity;
  /** Upper snake, e.g. JANITOR_STUCK. */
  readonly code: string;
  readonly message: string;
  /** platform_id, vm_id, operation_id … */
  readonly references?: Readonly<Record<string, string>>;
}

/** The way to the host's event list: ordered, stored until acknowledged, bounded. Served by host. */
export interface EventReporter {
  report(event: ReportedEvent): void;
}

/** Who and where this plug-in is for its workers; served by the composition. */
export interface WorkerPlace {
  readonly instanceId: string;
  /** Where they dial, once the ports are open; `chosen` when the configuration says so in words of its own. */
  readonly endpoints: () => { readonly endpoint: string; readonly enrolmentEndpoint: string; readonly chosen: boolean };
}

/** What protection hands to the rest of the process. */
export interface ProtectionPart {
  /** Restores the journal, then runs janitor and fleet; started before the ports open, stopped after they close. */
  readonly services: readonly Service[];
  /** ProtectionService, WorkerFleetService, JanitorService and WorkerService, on the mutual TLS server. */
  serve(server: Server, options: ServeOptions): void;
  /** WorkerEnrolmentService, on the server without client certificates. */
  serveEnrolment(server: Server, options: ServeOptions): void;
  /** The connected ones, to pass trust on to. */
  readonly workers: ConnectedWorkers;
  /** Operations that are not final, for the heartbeat. */
  runningOperationIds(): readonly string[];
  /** Why a platform cannot be forgotten now: running operations, worker VMs, clean-up pending; undefined when it can. */
  platformInUse(platformId: string): string | undefined;
}

/** Keys of the container. The comment names the type. */
export const tokens = {
  /** PluginConfig */
  config: Symbol('config'),
  /** Logger */
  logger: Symbol('logger'),
  /** ProcessIdentity */
  identity: Symbol('identity'),
  /** Engines */
  engines: Symbol('engines'),
  /** EventReporter */
  events: Symbol('events'),
  /** WorkerCertificates of grpc/worker-services */
  workerCertificates: Symbol('workerCertificates'),
  /** WorkerHost of worker-vms/host-port */
  workerHost: Symbol('workerHost'),
  /** WorkerPlace */
  workerPlace: Symbol('workerPlace'),
  /** ProtectionPart; registered by registerProtection(container) in protection/register.ts */
  protection: Symbol('protection'),
} as const;
