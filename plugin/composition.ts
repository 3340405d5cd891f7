import 'reflect-metadata';
import { container, instanceCachingFactory } from 'tsyringe';
import type { DependencyContainer, InjectionToken } from 'tsyringe';
import net from 'node:net';
import path from 'node:path';
import type { Service } from '../common/lifecycle/lifecycle';
import { createLogger } from '../common/log/logger';
import type { Logger } from '../common/log/logger';
import type { ServeOptions } from '../common/rpc/serve';
import type { ProcessIdentity } from '../common/tls/identity';
import type { ProcessInfo } from '../proto/gen/tidemark/common/v1/ProcessInfo';
import type { PluginConfig } from './config';
import { serveHealth } from '../common/rpc/health-service';
import { serveIdentity } from './grpc/identity-service';
import { serveInventory } from './grpc/inventory-service';
import { servePlatforms } from './grpc/platform-service';
import { PluginServer } from './grpc/plugin-server';
import type { WorkerCertificates } from './grpc/worker-services';
import { EventOutbox } from './host/event-outbox';
import { HostLink } from './host/host-link';
import { DiskOutboxFile } from './host/outbox-file';
import type { PluginEndpoints } from './host/host-link';
import { Inventory } from './inventory/inventory';
import { ObservedCertificates } from './platforms/observed-certificates';
import { PlatformStore } from './platforms/platform-store';
import { Platforms } from './platforms/platforms';
import { registerProtection } from './protection/register';
import { tokens as shared } from './tokens';
import type { Engines, EventReporter, ProtectionPart, WorkerPlace } from './tokens';
import type { WorkerHost } from './worker-vms/host-port';

export const pluginId = 'ovirt';
/** Contract packages spoken. */
export const pluginProtocols = ['tidemark.plugin.v1', 'tidemark.worker.v1'] as const;
export const pluginCapabilities = ['vm-backup', 'incremental-backup', 'vm-restore', 'disk-restore', 'file-restore'] as const;

const tokens = {
  config: shared.config as InjectionToken<PluginConfig>,
  logger: shared.logger as InjectionToken<Logger>,
  identity: shared.identity as InjectionToken<ProcessIdentity>,
  engines: shared.engines as InjectionToken<Engines>,
  events: shared.events as InjectionToken<EventReporter>,
  workerCertificates: shared.workerCertificates as InjectionToken<WorkerCertificates>,
  workerHost: shared.workerHost as InjectionToken<WorkerHost>,
  workerPlace: shared.workerPlace as InjectionToken<WorkerPlace>,
  protection: shared.protection as InjectionToken<ProtectionPart>,
  outbox: Symbol('outbox') as InjectionToken<EventOutbox>,
  platforms: Symbol('platforms') as InjectionToken<Platforms>,
  inventory: Symbol('inventory') as InjectionToken<Inventory>,
  server: Symbol('server') as InjectionToken<PluginServer>,
  hostLink: Symbol('hostLink') as InjectionToken<HostLink>,
};

/** Everything that a plug-in runs, wired. */
export interface PluginProcess {
  readonly services: readonly Service[];
  /** Once the services run. */
  endpoints(): PluginEndpoints;
}

export function pluginLogger(config: PluginConfig): Logger {
  return createLogger({ process: 'plugin', level: config.logLevel, ...(config.logFile === undefined ? {} : { file: config.logFile }) });
}

/** The composition root: the only place that knows who needs whom. */
export function composePlugin(config: PluginConfig, logger: Logger, info: ProcessInfo, identity: ProcessIdentity): PluginProcess {
  const scope = container.createChildContainer();
  const once = <T>(token: InjectionToken<T>, make: (c: DependencyContainer) => T) =>
    scope.register(token, { useFactory: instanceCachingFactory(make) });
  once(tokens.config, () => config);
  once(tokens.logger, () => logger);
  once(tokens.identity, () => identity);
  once(tokens.outbox, () => new EventOutbox(logger, new DiskOutboxFile(path.join(config.dataFolder, 'events.jsonl'))));
  once(tokens.events, (c) => c.resolve(tokens.outbox));
  // Asked when a platform is to be removed, long after everything is made: protection itself needs the engines.
  once(
    tokens.platforms,
    () =>
      new Platforms(new PlatformStore(config.dataFolder), logger, (platformId) =>
        scope.resolve(tokens.protection).platformInUse(platformId),
      ),
  );
  once(tokens.engines, (c) => c.resolve(tokens.platforms));
  once(tokens.inventory, (c) => new Inventory(c.resolve(tokens.platforms), c.resolve(tokens.events), config.inventory, logger));
  once(tokens.server, () => new PluginServer(config.listen, identity, logger));
  once(
    tokens.hostLink,
    (c) =>
      new HostLink(
        {
          hostEndpoint: config.host.endpoint,
          enrolmentEndpoint: config.host.enrolmentEndpoint,
          process: info,
          pluginId,
          addresses: config.addresses,
          endpoints: () => endpointsOf(config, c.resolve(tokens.server)),
          runningOperationIds: () => scope.resolve(tokens.protection).runningOperationIds(),
          workers: {
            connected: () => scope.resolve(tokens.protection).workers.connected(),
            updateTrust: (workerId, update) => scope.resolve(tokens.protection).workers.updateTrust(workerId, update),
          },
        },
        identity,
        c.resolve(tokens.outbox),
        logger,
      ),
  );
  once(tokens.workerCertificates, (c) => c.resolve(tokens.hostLink));
  once(tokens.workerHost, (c) => c.resolve(tokens.hostLink));
  once(tokens.workerPlace, (c) => ({
    instanceId: info.instanceId ?? '',
    endpoints: () => {
      const { workerEndpoint, enrolmentEndpoint } = endpointsOf(config, c.resolve(tokens.server));
      return { endpoint: workerEndpoint, enrolmentEndpoint, chosen: config.advertise.workerEndpoint !== undefined };
    },
  }));
  registerProtection(scope);

  const server = scope.resolve(tokens.server);
  const platforms = scope.resolve(tokens.platforms);
  const inventory = scope.resolve(tokens.inventory);
  const observed = new ObservedCertificates(platforms, config.workerVms, logger);
  const protection = scope.resolve(tokens.protection);
  const options: ServeOptions = { logger, domain: 'plugin' };
  serveHealth(server.main, ['host', 'worker'], options);
  serveIdentity(server.main, { process: info, pluginId, displayName: config.displayName }, options);
  servePlatforms(server.main, platforms, observed, options);
  serveInventory(server.main, inventory, options);
  protection.serve(server.main, options);
  protection.serveEnrolment(server.enrolment, options);
  const engines: Service = { name: 'engines', start: async () => undefined, stop: () => platforms.close() };
  return {
    // Ports open when there is something behind them; the host hears of them last.
    services: [engines, inventory, observed, ...protection.services, server, scope.resolve(tokens.hostLink)],
    endpoints: () => endpointsOf(config, server),
  };
}

function endpointsOf(config: PluginConfig, server: PluginServer): PluginEndpoints {
  const name = config.addresses[0] ?? 'localhost';
  const dialled = (port: number) => `${net.isIPv6(name) ? `[${name}]` : name}:${port}`;
  const { port, enrolmentPort } = server.ports;
  return {
    endpoint: config.advertise.endpoint ?? dialled(port),
    workerEndpoint: config.advertise.workerEndpoint ?? dialled(port),
    enrolmentEndpoint: config.advertise.enrolmentEndpoint ?? dialled(enrolmentPort),
  };
}
