import path from 'node:path';
import { CareStore } from '../catalogue/care-store';
import { HoldStore } from '../catalogue/hold-store';
import { PointStore } from '../catalogue/point-store';
import { ConfigurationCopies } from '../configuration/configuration-copies';
import { ConfigurationKey } from '../configuration/configuration-key';
import { Candidates } from '../data-paths/candidates';
import { MoverLoads } from '../data-paths/mover-loads';
import { SessionPaths } from '../data-paths/session-paths';
import { Platforms } from '../inventory/platforms';
import { VirtualMachines } from '../inventory/virtual-machines';
import { CareKeeper } from '../maintenance/care-keeper';
import { PointMaintenance } from '../maintenance/point-maintenance';
import { MoverSessions } from '../repositories/mover-sessions';
import { MoverArrivals } from '../repositories/mover-arrivals';
import { Repositories } from '../repositories/repositories';
import { RepositoryAccess } from '../repositories/repository-access';
import { RepositoryEdit } from '../repositories/repository-edit';
import { RepositoryGateways } from '../repositories/repository-gateways';
import { RepositoryMovers } from '../repositories/repository-movers';
import { RepositorySecrets } from '../repositories/repository-secrets';
import { MoverReach } from '../workers/mover-reach';
import type { Foundation, Once } from './foundation';
import { tokens } from './tokens';

/** What is protected and where it goes: platforms, repositories and their care, the way to them. */
export function registerProtection(once: Once, foundation: Foundation): void {
  const { config, logger, now, db, settings, authority, installationId, repositoryStore, platformStore, dataFolder } = foundation;
  once(tokens.platforms, (get) => new Platforms(platformStore, get(tokens.pluginConnections)));
  once(tokens.vms, (get) => new VirtualMachines(get(tokens.pluginConnections), get(tokens.platforms)));
  once(tokens.points, () => new PointStore(db));
  once(tokens.holds, () => new HoldStore(db));
  once(tokens.care, () => new CareStore(db));
  once(tokens.moverLoads, () => new MoverLoads());
  once(tokens.candidates, (get) => {
    const reach = new MoverReach(get(tokens.fleet), logger, now);
    return new Candidates(get(tokens.movers), get(tokens.moverLoads), reach, get(tokens.sessions));
  });
  once(
    tokens.repositories,
    (get) =>
      new Repositories(
        repositoryStore,
        get(tokens.points),
        get(tokens.moverConnections),
        get(tokens.movers),
        get(tokens.candidates),
        get(tokens.repositoryMovers),
        get(tokens.repositorySecrets),
      ),
  );
  once(tokens.repositorySecrets, () => new RepositorySecrets(path.join(dataFolder, 'repositories.key')));
  once(tokens.repositoryMovers, (get) => {
    const [connections, movers] = [get(tokens.moverConnections), get(tokens.movers)];
    return new RepositoryMovers(repositoryStore, connections, movers, get(tokens.candidates), get(tokens.repositorySecrets));
  });
  once(tokens.repositoryGateways, (get) => {
    const [connections, movers, serving] = [get(tokens.moverConnections), get(tokens.movers), get(tokens.repositoryMovers)];
    const secrets = get(tokens.repositorySecrets);
    return new RepositoryGateways(repositoryStore, connections, movers, serving, secrets, get(tokens.platforms));
  });
  once(tokens.repositoryAccess, (get) => {
    const [connections, serving, secrets] = [get(tokens.moverConnections), get(tokens.repositoryMovers), get(tokens.repositorySecrets)];
    return new RepositoryAccess(repositoryStore, connections, serving, secrets, logger);
  });
  once(tokens.moverArrivals, (get) => {
    const [repositories, gateways, access] = [get(tokens.repositories), get(tokens.repositoryGateways), get(tokens.repositoryAccess)];
    return new MoverArrivals(get(tokens.movers), gateways, access, repositories, logger);
  });
  once(tokens.repositoryEdit, (get) => {
    const [gateways, access] = [get(tokens.repositoryGateways), get(tokens.repositoryAccess)];
    return new RepositoryEdit(get(tokens.repositories), access, gateways, get(tokens.moverArrivals));
  });
  once(tokens.configurationKey, () => ConfigurationKey.open(path.join(dataFolder, 'configuration-key.json'), now()));
  once(tokens.copies, (get) => {
    const { dataFolder: _, ...server } = config;
    return new ConfigurationCopies(
      { db, dataFolder, installationId: installationId, server },
      get(tokens.configurationKey),
      get(tokens.repositories),
      get(tokens.care),
      get(tokens.events),
      logger,
      now,
    );
  });
  once(tokens.pointMaintenance, (get) => new PointMaintenance(get(tokens.repositories), get(tokens.points), get(tokens.holds), now));
  once(
    tokens.careKeeper,
    (get) =>
      new CareKeeper(
        repositoryStore,
        get(tokens.care),
        get(tokens.sessions),
        get(tokens.engine),
        get(tokens.copies),
        settings,
        get(tokens.events),
        logger,
        now,
      ),
  );
  once(
    tokens.moverSessions,
    (get) => new MoverSessions(get(tokens.repositories), get(tokens.moverConnections), () => authority.ticketSigningKey, now),
  );
  once(
    tokens.paths,
    (get) => new SessionPaths(get(tokens.repositories), get(tokens.candidates), get(tokens.moverSessions), get(tokens.moverLoads)),
  );
}
