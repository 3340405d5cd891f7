import 'reflect-metadata';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { container, instanceCachingFactory } from 'tsyringe';
import type { DependencyContainer, InjectionToken } from 'tsyringe';
import { processInfo } from '../common/lifecycle/process-info';
import type { Service } from '../common/lifecycle/lifecycle';
import { createLogger } from '../common/log/logger';
import type { Logger } from '../common/log/logger';
import { serveHealth } from '../common/rpc/health-service';
import { enrolmentServerCredentials, mutualServerCredentials } from '../common/tls/credentials';
import { durableWrite } from '../common/tls/durable-write';
import { openCatalogue } from './catalogue/catalogue';
import { CareStore } from './catalogue/care-store';
import { CertificateStore } from './catalogue/certificate-store';
import { EventStore } from './catalogue/event-store';
import { HoldStore } from './catalogue/hold-store';
import { IdentityStore } from './catalogue/identity-store';
import { JobStore } from './catalogue/job-store';
import { PlatformStore } from './catalogue/platform-store';
import { PointStore } from './catalogue/point-store';
import { ProcessStore } from './catalogue/process-store';
import { RepositoryStore } from './catalogue/repository-store';
import { SessionStore } from './catalogue/session-store';
import { SettingStore } from './catalogue/setting-store';
import { UserStore } from './catalogue/user-store';
import type { ServerConfig } from './config';
import { ConfigurationCopies } from './configuration/configuration-copies';
import { ConfigurationKey } from './configuration/configuration-key';
import { certificateHandlers } from './console/certificate-handlers';
import { ConsoleServer } from './console/console-server';
import { Doctor } from './console/doctor';
import { inventoryHandlers } from './console/inventory-handlers';
import { moverHandlers } from './console/mover-handlers';
import { maintenanceHandlers } from './console/maintenance-handlers';
import { processHandlers } from './console/process-handlers';
import { protectionHandlers } from './console/protection-handlers';
import { SessionFeed } from './console/session-feed';
import { workerHandlers } from './console/worker-handlers';
import { CertificateAuthority } from './identity/certificate-authority';
import { CertificateWatch } from './identity/certificate-watch';
import { HostErrors } from './errors/host-errors';
import { readConsoleCertificate } from './identity/console-certificate';
import { Enrolment } from './identity/enrolment';
import { Refusals } from './identity/refusals';
import { Rotation } from './identity/rotation';
import { Throttle } from './identity/throttle';
import { Users } from './identity/users';
import { Candidates, namedGateways } from './data-paths/candidates';
import { MoverLoads } from './data-paths/mover-loads';
import { PathKeeper } from './data-paths/path-keeper';
import { SessionPaths } from './data-paths/session-paths';
import { observedCertificates } from './inventory/observed-certificates';
import { Platforms } from './inventory/platforms';
import { VirtualMachines } from './inventory/virtual-machines';
import { BackupFlow } from './jobs/backup-flow';
import { JobSelection } from './jobs/job-selection';
import { OperationFollower } from './jobs/operation-follower';
import { Scheduler } from './jobs/scheduler';
import { SessionEngine } from './jobs/session-engine';
import { Slots } from './jobs/slots';
import { TaskRunner } from './jobs/task-runner';
import { VerifyFlow } from './jobs/verify-flow';
import { CareKeeper } from './maintenance/care-keeper';
import { CollectFlow } from './maintenance/collect-flow';
import { PointMaintenance } from './maintenance/point-maintenance';
import { GrpcServer } from './registry/grpc-server';
import { serveEnrolment, serveRegistry } from './registry/host-services';
import { MoverConnections } from './registry/mover-connections';
import { MoverRegistry } from './registry/mover-registry';
import { PluginConnections } from './registry/plugin-connections';
import { PluginRegistry } from './registry/plugin-registry';
import { MoverSessions } from './repositories/mover-sessions';
import { Repositories } from './repositories/repositories';
import { RepositorySecrets } from './repositories/repository-secrets';
import { RestoreFlow } from './restores/restore-flow';
import { RestorePlanner } from './restores/restore-planner';
import { AllInOne } from './supervision/all-in-one';
import { Fleet } from './workers/fleet';
import { MoverReach } from './workers/mover-reach';
import { WorkerFlow } from './workers/worker-flow';
import { WorkerPlanner } from './workers/worker-planner';
import { WorkerPreparation } from './workers/worker-preparation';

const hostProtocols = ['tidemark.host.v1'];
const minuteMs = 60_000;
const yearMs = 365 * 86_400_000;

const token = <T>(name: string) => Symbol(name) as InjectionToken<T>;
const tokens = {
  identities: token<IdentityStore>('identities'),
  processes: token<ProcessStore>('processes'),
  events: token<EventStore>('events'),
  users: token<Users>('users'),
  jobs: token<JobStore>('jobs'),
  points: token<PointStore>('points'),
  sessions: token<SessionStore>('sessions'),
  enrolment: token<Enrolment>('enrolment'),
  certificates: token<CertificateStore>('certificates'),
  rotation: token<Rotation>('rotation'),
  watch: token<CertificateWatch>('watch'),
  plugins: token<PluginRegistry>('plugins'),
  movers: token<MoverRegistry>('movers'),
  pluginConnections: token<PluginConnections>('pluginConnections'),
  moverConnections: token<MoverConnections>('moverConnections'),
  platforms: token<Platforms>('platforms'),
  vms: token<VirtualMachines>('vms'),
  repositories: token<Repositories>('repositories'),
  holds: token<HoldStore>('holds'),
  care: token<CareStore>('care'),
  configurationKey: token<ConfigurationKey>('configurationKey'),
  copies: token<ConfigurationCopies>('copies'),
  pointMaintenance: token<PointMaintenance>('pointMaintenance'),
  careKeeper: token<CareKeeper>('careKeeper'),
  moverSessions: token<MoverSessions>('moverSessions'),
  moverLoads: token<MoverLoads>('moverLoads'),
  candidates: token<Candidates>('candidates'),
  paths: token<SessionPaths>('paths'),
  follower: token<OperationFollower>('follower'),
  selection: token<JobSelection>('selection'),
  preparation: token<WorkerPreparation>('preparation'),
  fleet: token<Fleet>('fleet'),
  workerPlanner: token<WorkerPlanner>('workerPlanner'),
  slots: token<Slots>('slots'),
  engine: token<SessionEngine>('engine'),
  planner: token<RestorePlanner>('planner'),
  doctor: token<Doctor>('doctor'),
  control: token<GrpcServer>('control'),
  enrolmentPort: token<GrpcServer>('enrolmentPort'),
  console: token<ConsoleServer>('console'),
  children: token<AllInOne>('children'),
};

export interface ServerEndpoints {
  /** URL of the REST API. */
  readonly console: string;
  readonly control: string;
  readonly enrolment: string;
}

/** Everything that a server runs, wired. */
export interface ServerProcess {
  readonly logger: Logger;
  readonly services: readonly Service[];
  readonly console: ConsoleServer;
  readonly engine: SessionEngine;
  /** Known once the services run. */
  endpoints(): ServerEndpoints;
}

/** The composition root: the only place that knows who needs whom. Opens catalogue and CA, starts nothing. */
export async function composeServer(config: ServerConfig, given?: Logger): Promise<ServerProcess> {
  const { dataFolder } = config;
  fs.mkdirSync(dataFolder, { recursive: true, mode: 0o700 });
  const logger =
    given ?? createLogger({ process: 'server', level: config.logLevel, ...(config.logFile === undefined ? {} : { file: config.logFile }) });
  const now = () => new Date();
  const info = processInfo(dataFolder, hostProtocols, []);
  const db = await openCatalogue(path.join(dataFolder, 'catalogue.sqlite'));
  const settings = new SettingStore(db);
  await settings.load();
  const authority = await CertificateAuthority.open(dataFolder, info.instanceId, config.addresses);
  const consoleCertificate = readConsoleCertificate(config.console);
  const address = config.listen.address === '::' && !hasIPv6() ? '0.0.0.0' : config.listen.address;
  const endpointOf = (port: number): string => {
    const name = config.addresses[0] as string;
    return `${net.isIPv6(name) ? `[${name}]` : name}:${port}`;
  };
  const options = { logger, domain: 'host' };

  const scope = container.createChildContainer();
  const once = <T>(of: InjectionToken<T>, make: (c: DependencyContainer) => T) =>
    scope.register(of, { useFactory: instanceCachingFactory(make) });
  const endpoints = (): ServerEndpoints => ({
    console: `https://${endpointOf(scope.resolve(tokens.console).port)}`,
    control: endpointOf(scope.resolve(tokens.control).port),
    enrolment: endpointOf(scope.resolve(tokens.enrolmentPort).port),
  });

  const repositoryStore = new RepositoryStore(db);
  const platformStore = new PlatformStore(db);
  once(tokens.identities, () => new IdentityStore(db));
  once(tokens.processes, () => new ProcessStore(db));
  once(tokens.events, () => new EventStore(db));
  once(tokens.jobs, () => new JobStore(db));
  once(tokens.points, () => new PointStore(db));
  once(tokens.holds, () => new HoldStore(db));
  once(tokens.care, () => new CareStore(db));
  once(tokens.sessions, () => new SessionStore(db));
  once(tokens.users, () => new Users(new UserStore(db), settings, new Throttle(10, minuteMs), now));
  once(tokens.certificates, () => new CertificateStore(db));
  once(
    tokens.enrolment,
    (c) => new Enrolment(authority, c.resolve(tokens.identities), new Throttle(20, minuteMs), now, c.resolve(tokens.certificates)),
  );
  once(
    tokens.rotation,
    (c) => new Rotation(authority, c.resolve(tokens.identities), c.resolve(tokens.certificates), c.resolve(tokens.events), logger, now),
  );
  once(tokens.plugins, (c) => new PluginRegistry(c.resolve(tokens.identities), c.resolve(tokens.processes), c.resolve(tokens.events), now));
  once(tokens.movers, (c) => new MoverRegistry(c.resolve(tokens.identities), c.resolve(tokens.processes), now));
  once(tokens.pluginConnections, (c) => new PluginConnections(c.resolve(tokens.plugins), authority.own));
  once(tokens.moverConnections, (c) => new MoverConnections(c.resolve(tokens.movers), authority.own));
  once(tokens.platforms, (c) => new Platforms(platformStore, c.resolve(tokens.pluginConnections)));
  once(tokens.vms, (c) => new VirtualMachines(c.resolve(tokens.pluginConnections), c.resolve(tokens.platforms)));
  once(tokens.moverLoads, () => new MoverLoads());
  once(tokens.candidates, (c) => {
    const reach = new MoverReach(c.resolve(tokens.fleet), logger, now);
    return new Candidates(c.resolve(tokens.movers), c.resolve(tokens.moverLoads), reach, c.resolve(tokens.sessions));
  });
  once(
    tokens.repositories,
    (c) =>
      new Repositories(
        repositoryStore,
        c.resolve(tokens.points),
        c.resolve(tokens.moverConnections),
        c.resolve(tokens.movers),
        c.resolve(tokens.candidates),
        new RepositorySecrets(path.join(dataFolder, 'repositories.key')),
        logger,
      ),
  );
  once(tokens.configurationKey, () => ConfigurationKey.open(path.join(dataFolder, 'configuration-key.json'), now()));
  once(tokens.copies, (c) => {
    const { dataFolder: _, ...server } = config;
    return new ConfigurationCopies(
      { db, dataFolder, installationId: info.instanceId, server },
      c.resolve(tokens.configurationKey),
      c.resolve(tokens.repositories),
      c.resolve(tokens.care),
      c.resolve(tokens.events),
      logger,
      now,
    );
  });
  once(
    tokens.pointMaintenance,
    (c) => new PointMaintenance(c.resolve(tokens.repositories), c.resolve(tokens.points), c.resolve(tokens.holds), now),
  );
  once(
    tokens.careKeeper,
    (c) =>
      new CareKeeper(
        repositoryStore,
        c.resolve(tokens.care),
        c.resolve(tokens.sessions),
        c.resolve(tokens.engine),
        c.resolve(tokens.copies),
        settings,
        c.resolve(tokens.events),
        logger,
        now,
      ),
  );
  once(
    tokens.moverSessions,
    (c) => new MoverSessions(c.resolve(tokens.repositories), c.resolve(tokens.moverConnections), () => authority.ticketSigningKey, now),
  );
  once(
    tokens.paths,
    (c) =>
      new SessionPaths(
        c.resolve(tokens.repositories),
        c.resolve(tokens.candidates),
        c.resolve(tokens.moverSessions),
        c.resolve(tokens.moverLoads),
      ),
  );
  once(tokens.follower, (c) => {
    const keeper = new PathKeeper(c.resolve(tokens.paths), c.resolve(tokens.moverSessions), c.resolve(tokens.movers), logger);
    return new OperationFollower(keeper, logger);
  });
  once(tokens.selection, (c) => new JobSelection(c.resolve(tokens.platforms), c.resolve(tokens.vms)));
  once(tokens.preparation, (c) => new WorkerPreparation(c.resolve(tokens.platforms), c.resolve(tokens.selection), logger));
  once(tokens.fleet, (c) => new Fleet(c.resolve(tokens.pluginConnections), c.resolve(tokens.platforms)));
  once(tokens.workerPlanner, (c) => new WorkerPlanner(c.resolve(tokens.fleet), c.resolve(tokens.platforms)));
  once(
    tokens.watch,
    (c) =>
      new CertificateWatch(
        authority,
        c.resolve(tokens.rotation),
        (refresh) => observedCertificates(c.resolve(tokens.pluginConnections), c.resolve(tokens.platforms), refresh),
        c.resolve(tokens.certificates),
        c.resolve(tokens.events),
        now,
        consoleCertificate,
      ),
  );
  once(tokens.slots, () => new Slots());
  once(tokens.engine, (c) => {
    const repositories = c.resolve(tokens.repositories);
    const follower = c.resolve(tokens.follower);
    const moverSessions = c.resolve(tokens.moverSessions);
    const paths = c.resolve(tokens.paths);
    const slots = c.resolve(tokens.slots);
    const flows = {
      backup: new BackupFlow(
        c.resolve(tokens.platforms),
        repositories,
        moverSessions,
        paths,
        follower,
        c.resolve(tokens.jobs),
        c.resolve(tokens.points),
        c.resolve(tokens.sessions),
        slots,
        logger,
      ),
      restore: new RestoreFlow(c.resolve(tokens.pluginConnections), repositories, paths, follower, slots, logger),
      verify: new VerifyFlow(repositories),
      collect: new CollectFlow(repositories),
      worker: new WorkerFlow(c.resolve(tokens.pluginConnections), follower, logger),
    };
    return new SessionEngine(
      c.resolve(tokens.sessions),
      c.resolve(tokens.jobs),
      settings,
      repositories,
      c.resolve(tokens.selection),
      c.resolve(tokens.preparation),
      flows,
      new TaskRunner(logger),
      logger,
      now,
    );
  });
  once(
    tokens.planner,
    (c) => new RestorePlanner(c.resolve(tokens.points), c.resolve(tokens.platforms), c.resolve(tokens.pluginConnections)),
  );
  once(
    tokens.doctor,
    (c) =>
      new Doctor(
        c.resolve(tokens.watch),
        c.resolve(tokens.plugins),
        c.resolve(tokens.movers),
        c.resolve(tokens.pluginConnections),
        c.resolve(tokens.platforms),
        c.resolve(tokens.repositories),
        c.resolve(tokens.care),
        c.resolve(tokens.configurationKey),
        now,
      ),
  );
  once(tokens.control, (c) => {
    const port = new GrpcServer('control-port', address, config.listen.controlPort, authority.own, mutualServerCredentials);
    const parts = {
      authority,
      enrolment: c.resolve(tokens.enrolment),
      plugins: c.resolve(tokens.plugins),
      movers: c.resolve(tokens.movers),
      rotation: c.resolve(tokens.rotation),
    };
    serveRegistry(port.server, parts, options);
    serveHealth(port.server, ['plugin', 'mover'], options);
    return port;
  });
  once(tokens.enrolmentPort, (c) => {
    const port = new GrpcServer('enrolment-port', address, config.listen.enrolmentPort, authority.own, enrolmentServerCredentials);
    const [identities, certificates, events] = [c.resolve(tokens.identities), c.resolve(tokens.certificates), c.resolve(tokens.events)];
    const refusals = new Refusals(authority, identities, certificates, events, new Throttle(20, minuteMs), now);
    serveEnrolment(port.server, c.resolve(tokens.enrolment), refusals, options);
    return port;
  });
  once(tokens.console, (c) => {
    const sessions = c.resolve(tokens.sessions);
    const engine = c.resolve(tokens.engine);
    const platforms = c.resolve(tokens.platforms);
    const points = c.resolve(tokens.points);
    const events = c.resolve(tokens.events);
    const users = c.resolve(tokens.users);
    const mustNotNeed = async (id: string) => {
      const repository = (await repositoryStore.all()).find((row) => row.moverId === id || namedGateways(row)?.includes(id));
      const platform = (await platformStore.all()).find((row) => row.pluginId === id);
      const usedBy = repository ? `repository ${repository.name}` : platform && `platform ${platform.name}`;
      if (usedBy !== undefined) throw HostErrors.IN_USE({ what: id, usedBy });
    };
    const handlers = {
      ...processHandlers({
        users,
        authority,
        enrolment: c.resolve(tokens.enrolment),
        plugins: c.resolve(tokens.plugins),
        connections: c.resolve(tokens.pluginConnections),
        settings,
        events,
        doctor: c.resolve(tokens.doctor),
        endpoints,
      }),
      ...certificateHandlers({
        authority,
        rotation: c.resolve(tokens.rotation),
        watch: c.resolve(tokens.watch),
        enrolment: c.resolve(tokens.enrolment),
        mustNotNeed,
        now,
      }),
      ...moverHandlers({
        movers: c.resolve(tokens.movers),
        loads: c.resolve(tokens.moverLoads),
        enrolment: c.resolve(tokens.enrolment),
        repositories: c.resolve(tokens.repositories),
        candidates: c.resolve(tokens.candidates),
        vms: c.resolve(tokens.vms),
        endpoints,
        mustNotNeed,
      }),
      ...inventoryHandlers({ platforms, vms: c.resolve(tokens.vms), points, sessions, now }),
      ...protectionHandlers({
        repositories: c.resolve(tokens.repositories),
        points,
        holds: c.resolve(tokens.holds),
        care: c.resolve(tokens.care),
        jobs: c.resolve(tokens.jobs),
        sessions,
        engine,
        platforms,
        planner: c.resolve(tokens.planner),
        now,
      }),
      ...maintenanceHandlers({
        repositories: c.resolve(tokens.repositories),
        points,
        holds: c.resolve(tokens.holds),
        maintenance: c.resolve(tokens.pointMaintenance),
        engine,
        sessions,
        copies: c.resolve(tokens.copies),
        key: c.resolve(tokens.configurationKey),
        now,
      }),
      ...workerHandlers({
        fleet: c.resolve(tokens.fleet),
        planner: c.resolve(tokens.workerPlanner),
        engine,
        sessions,
        plugins: c.resolve(tokens.plugins),
        enrolment: c.resolve(tokens.enrolment),
        now,
      }),
    };
    const listen = { host: address, port: config.listen.port, certificate: consoleCertificate };
    return new ConsoleServer(listen, authority.own, users, events, handlers, new SessionFeed(sessions, engine), logger, now);
  });
  once(tokens.children, (c) => {
    const { children } = config;
    return new AllInOne({
      dataFolder,
      listenAddress: children.listenAddress ?? config.listen.address,
      addresses: config.addresses,
      workerAddresses: children.addresses,
      workerImageFolder: children.workerImageFolder,
      ports: {
        plugin: children.pluginPort,
        pluginEnrolment: children.pluginEnrolmentPort,
        mover: children.moverPort,
        moverData: children.moverDataPort,
      },
      logLevel: config.logLevel,
      serverEndpoints: endpoints,
      createToken: async (role) => (await c.resolve(tokens.enrolment).createToken(role)).token,
      logger,
    });
  });

  const repositories = scope.resolve(tokens.repositories);
  const engine = scope.resolve(tokens.engine);
  scope.resolve(tokens.movers).onRegistered((moverId) => void repositories.moverCame(moverId));
  const chores = async () => {
    await authority.renewOwn(now());
    await scope.resolve(tokens.events).trim();
    await scope.resolve(tokens.certificates).trim(new Date(now().getTime() - yearMs).toISOString());
  };
  return {
    logger,
    console: scope.resolve(tokens.console),
    engine,
    endpoints,
    services: [
      { name: 'catalogue', start: () => Promise.resolve(), stop: () => db.destroy() },
      {
        name: 'connections',
        start: () => Promise.resolve(),
        stop: async () => {
          scope.resolve(tokens.pluginConnections).close();
          scope.resolve(tokens.moverConnections).close();
        },
      },
      {
        name: 'first-user',
        start: async () => {
          const file = path.join(dataFolder, 'initial-admin-password');
          if (await scope.resolve(tokens.users).ensureAdmin(file)) logger.info('user admin was made; its password is in a file', { file });
        },
        stop: () => Promise.resolve(),
      },
      scope.resolve(tokens.enrolmentPort),
      scope.resolve(tokens.control),
      engine,
      new Scheduler(scope.resolve(tokens.jobs), engine, scope.resolve(tokens.preparation), scope.resolve(tokens.events), logger, now),
      scope.resolve(tokens.careKeeper),
      repeated('chores', 3_600_000, chores, logger),
      repeated('certificate watch', 6 * 3_600_000, () => scope.resolve(tokens.watch).warn(), logger),
      repeated('rotation', 2_000, () => scope.resolve(tokens.rotation).review(), logger),
      scope.resolve(tokens.console),
      {
        name: 'endpoints',
        start: async () => durableWrite(path.join(dataFolder, 'endpoints.json'), `${JSON.stringify(endpoints(), null, 2)}\n`, 0o644),
        stop: () => Promise.resolve(),
      },
      ...(config.allInOne ? [scope.resolve(tokens.children)] : []),
    ],
  };
}

/** Does something now and then; a failure is logged and tried again the next time. */
function repeated(name: string, everyMs: number, work: () => Promise<void>, logger: Logger): Service {
  let timer: NodeJS.Timeout | undefined;
  const once = () => work().catch((error: unknown) => logger.warn('a regular chore failed', { name, error }));
  return {
    name,
    start: async () => {
      await once();
      timer = setInterval(() => void once(), everyMs);
    },
    stop: async () => clearInterval(timer),
  };
}

function hasIPv6(): boolean {
  return fs.existsSync('/proc/net/if_inet6') && fs.readFileSync('/proc/net/if_inet6', 'utf8') !== '';
}
