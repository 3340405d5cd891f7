import 'reflect-metadata';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { container, instanceCachingFactory } from 'tsyringe';
import type { DependencyContainer, InjectionToken } from 'tsyringe';
import type { Service } from '../common/lifecycle/lifecycle';
import { createLogger, type Logger } from '../common/log/logger';
import type { ProcessIdentity } from '../common/tls/identity';
import type { ProcessInfo } from '../proto/gen/tidemark/common/v1/ProcessInfo';
import type { MoverConfig } from './config';
import { DataPortServer } from './data-port/data-port-server';
import { ControlServer } from './grpc/control-server';
import { serveDocuments } from './grpc/document-service';
import { serveHealth } from '../common/rpc/health-service';
import { serveMaintenance } from './grpc/maintenance-service';
import { serveRepositories } from './grpc/repository-service';
import { serveSessions } from './grpc/session-service';
import { HostLink } from './host/host-link';
import { KnownTicketKeys } from './host/known-ticket-keys';
import { Maintenance } from './maintenance/maintenance';
import { VerifyOperations } from './maintenance/verify-operations';
import { AttachedRepositories, type RepositoryListener } from './repository/served/attached-repositories';
import { SessionManager } from './sessions/session-manager';

/** Contract packages and protocols spoken. */
export const moverProtocols = ['tidemark.mover.v1', 'tidemark-data/1'] as const;
export const moverCapabilities = ['directory-repository', 'verify', 'collect'] as const;

const tokens = {
  keys: Symbol('keys') as InjectionToken<KnownTicketKeys>,
  sessions: Symbol('sessions') as InjectionToken<SessionManager>,
  verifications: Symbol('verifications') as InjectionToken<VerifyOperations>,
  maintenance: Symbol('maintenance') as InjectionToken<Maintenance>,
  repositories: Symbol('repositories') as InjectionToken<AttachedRepositories>,
  dataPort: Symbol('dataPort') as InjectionToken<DataPortServer>,
  control: Symbol('control') as InjectionToken<ControlServer>,
  hostLink: Symbol('hostLink') as InjectionToken<HostLink>,
};

/** Everything that a mover runs, wired. */
export interface MoverProcess {
  readonly services: readonly Service[];
  /** Known once the services run. */
  endpoints(): { readonly controlEndpoint: string; readonly dataEndpoints: readonly string[] };
}

export function moverLogger(config: MoverConfig): Logger {
  return createLogger({ process: 'mover', level: config.logLevel, ...(config.logFile === undefined ? {} : { file: config.logFile }) });
}

/** The composition root: the only place that knows who needs whom. */
export function composeMover(
  config: MoverConfig,
  logger: Logger,
  info: ProcessInfo & { instanceId: string },
  identity: ProcessIdentity,
): MoverProcess {
  const scope = container.createChildContainer();
  const once = <T>(token: InjectionToken<T>, make: (c: DependencyContainer) => T) =>
    scope.register(token, { useFactory: instanceCachingFactory(make) });
  const address = listenAddress(config.listen.address);
  once(tokens.keys, () => new KnownTicketKeys(config.dataFolder));
  once(
    tokens.sessions,
    () =>
      new SessionManager(
        { scratchFolder: path.join(config.dataFolder, 'scratch'), minimumFreeBytes: config.limits.minimumFreeBytes },
        logger,
      ),
  );
  once(tokens.verifications, () => new VerifyOperations(logger, path.join(config.dataFolder, 'cache')));
  once(tokens.maintenance, () => new Maintenance(logger, { settings: { leaseDurationMs: config.lockLeaseMs } }));
  once(tokens.repositories, (c) => {
    const sessions = c.resolve(tokens.sessions);
    const verifications = c.resolve(tokens.verifications);
    const maintenance = c.resolve(tokens.maintenance);
    const listener: RepositoryListener = {
      attached: (repository) => sessions.load(repository),
      detaching: async (repository) => {
        await sessions.unload(repository);
        await verifications.stop(repository);
        await maintenance.stop(repository);
      },
      lost: async (repository) => {
        await sessions.forget(repository);
        await verifications.stop(repository);
        await maintenance.stop(repository);
      },
    };
    const options = {
      dataFolder: config.dataFolder,
      instanceId: info.instanceId,
      lockLeaseMs: config.lockLeaseMs,
      sharePatienceMs: config.shares.patienceMs,
      retryIntervalMs: Math.min(10_000, config.lockLeaseMs / 3),
    };
    return new AttachedRepositories(options, listener, logger);
  });
  once(
    tokens.dataPort,
    (c) =>
      new DataPortServer(
        { host: address, port: config.listen.dataPort, limits: config.limits },
        identity,
        c.resolve(tokens.keys),
        c.resolve(tokens.sessions),
        logger,
      ),
  );
  once(tokens.control, (c) => {
    const control = new ControlServer(address, config.listen.port, identity, logger);
    const options = { logger, domain: 'mover' };
    const repositories = c.resolve(tokens.repositories);
    const sessions = c.resolve(tokens.sessions);
    serveRepositories(control.server, repositories, sessions, c.resolve(tokens.verifications), options);
    serveSessions(control.server, repositories, sessions, options);
    serveMaintenance(control.server, repositories, c.resolve(tokens.maintenance), options);
    serveDocuments(control.server, repositories, options);
    serveHealth(control.server, ['host'], options);
    return control;
  });
  const endpoints = () => ({
    controlEndpoint: config.advertise.endpoint ?? endpoint(config.addresses[0] as string, scope.resolve(tokens.control).port),
    dataEndpoints: config.advertise.dataEndpoints ?? [endpoint(config.addresses[0] as string, scope.resolve(tokens.dataPort).port)],
  });
  once(
    tokens.hostLink,
    (c) =>
      new HostLink(
        {
          hostEndpoint: config.host.endpoint,
          enrolmentEndpoint: config.host.enrolmentEndpoint,
          process: info,
          addresses: config.addresses,
          endpoints,
        },
        identity,
        c.resolve(tokens.keys),
        logger,
      ),
  );
  const sessions = scope.resolve(tokens.sessions);
  const verifications = scope.resolve(tokens.verifications);
  const maintenance = scope.resolve(tokens.maintenance);
  return {
    endpoints,
    services: [
      scope.resolve(tokens.repositories),
      { name: 'sessions', start: async () => sessions.start(), stop: () => sessions.stop() },
      { name: 'verifications', start: async () => undefined, stop: () => verifications.stop() },
      { name: 'maintenance', start: async () => undefined, stop: () => maintenance.stop() },
      scope.resolve(tokens.dataPort),
      scope.resolve(tokens.control),
      scope.resolve(tokens.hostLink),
    ],
  };
}

function endpoint(address: string, port: number): string {
  return net.isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}

/** A machine without IPv6 has no "::". */
function listenAddress(address: string): string {
  return address === '::' && !fs.existsSync('/proc/net/if_inet6') ? '0.0.0.0' : address;
}
