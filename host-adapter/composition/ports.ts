import { serveHealth } from '../../common/rpc/health-service';
import { certificateHandlers } from '../console/certificate-handlers';
import { ConsoleServer } from '../console/console-server';
import { Doctor } from '../console/doctor';
import { inventoryHandlers } from '../console/inventory-handlers';
import { moverHandlers } from '../console/mover-handlers';
import { maintenanceHandlers } from '../console/maintenance-handlers';
import { processHandlers } from '../console/process-handlers';
import { protectionHandlers } from '../console/protection-handlers';
import { SessionFeed } from '../console/session-feed';
import { workerHandlers } from '../console/worker-handlers';
import { HostErrors } from '../errors/host-errors';
import { Refusals } from '../identity/refusals';
import { Throttle } from '../identity/throttle';
import { namedGateways } from '../data-paths/candidates';
import { GrpcServer } from '../registry/grpc-server';
import { serveEnrolment, serveRegistry } from '../registry/host-services';
import { AllInOne } from '../supervision/all-in-one';
import type { Foundation, Once } from './foundation';
import { tokens } from './tokens';

const minuteMs = 60_000;

/** What is open to others: the two gRPC ports, the console, and the children of an all-in-one server. */
export function registerPorts(once: Once, foundation: Foundation): void {
  const {
    config,
    logger,
    now,
    settings,
    authority,
    address,
    consoleCertificate,
    repositoryStore,
    platformStore,
    endpoints,
    options,
    dataFolder,
  } = foundation;
  once(
    tokens.doctor,
    (get) =>
      new Doctor(
        get(tokens.watch),
        get(tokens.plugins),
        get(tokens.movers),
        get(tokens.pluginConnections),
        get(tokens.platforms),
        get(tokens.repositories),
        get(tokens.care),
        get(tokens.configurationKey),
        now,
      ),
  );
  once(tokens.control, (get) => {
    const listen = { address, port: config.listen.controlPort, admits: 'ours' } as const;
    const port = new GrpcServer('control-port', listen, authority.own, logger);
    const parts = {
      authority,
      enrolment: get(tokens.enrolment),
      plugins: get(tokens.plugins),
      movers: get(tokens.movers),
      rotation: get(tokens.rotation),
    };
    serveRegistry(port.server, parts, options);
    serveHealth(port.server, ['plugin', 'mover'], options);
    return port;
  });
  once(tokens.enrolmentPort, (get) => {
    const listen = { address, port: config.listen.enrolmentPort, admits: 'strangers' } as const;
    const port = new GrpcServer('enrolment-port', listen, authority.own, logger);
    const [identities, certificates, events] = [get(tokens.identities), get(tokens.certificates), get(tokens.events)];
    const refusals = new Refusals(authority, identities, certificates, events, new Throttle(20, minuteMs), now);
    serveEnrolment(port.server, get(tokens.enrolment), refusals, options);
    return port;
  });
  once(tokens.console, (get) => {
    const sessions = get(tokens.sessions);
    const engine = get(tokens.engine);
    const platforms = get(tokens.platforms);
    const points = get(tokens.points);
    const events = get(tokens.events);
    const users = get(tokens.users);
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
        enrolment: get(tokens.enrolment),
        plugins: get(tokens.plugins),
        connections: get(tokens.pluginConnections),
        settings,
        events,
        doctor: get(tokens.doctor),
        endpoints,
      }),
      ...certificateHandlers({
        authority,
        rotation: get(tokens.rotation),
        watch: get(tokens.watch),
        enrolment: get(tokens.enrolment),
        mustNotNeed,
        now,
      }),
      ...moverHandlers({
        movers: get(tokens.movers),
        loads: get(tokens.moverLoads),
        enrolment: get(tokens.enrolment),
        repositories: get(tokens.repositories),
        candidates: get(tokens.candidates),
        vms: get(tokens.vms),
        endpoints,
        mustNotNeed,
      }),
      ...inventoryHandlers({ platforms, vms: get(tokens.vms), points, sessions, now }),
      ...protectionHandlers({
        repositories: get(tokens.repositories),
        edit: get(tokens.repositoryEdit),
        points,
        holds: get(tokens.holds),
        care: get(tokens.care),
        jobs: get(tokens.jobs),
        sessions,
        engine,
        platforms,
        planner: get(tokens.planner),
        now,
      }),
      ...maintenanceHandlers({
        repositories: get(tokens.repositories),
        points,
        holds: get(tokens.holds),
        maintenance: get(tokens.pointMaintenance),
        engine,
        sessions,
        copies: get(tokens.copies),
        key: get(tokens.configurationKey),
        now,
      }),
      ...workerHandlers({
        fleet: get(tokens.fleet),
        planner: get(tokens.workerPlanner),
        engine,
        sessions,
        plugins: get(tokens.plugins),
        enrolment: get(tokens.enrolment),
        now,
      }),
    };
    const listen = { host: address, port: config.listen.port, certificate: consoleCertificate };
    return new ConsoleServer(listen, authority.own, users, events, handlers, new SessionFeed(sessions, engine), logger, now);
  });
  once(tokens.children, (get) => {
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
      createToken: async (role) => (await get(tokens.enrolment).createToken(role)).token,
      logger,
    });
  });
}
