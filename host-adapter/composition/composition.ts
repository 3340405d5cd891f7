import 'reflect-metadata';
import path from 'node:path';
import { container, instanceCachingFactory } from 'tsyringe';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { durableWrite } from '../../common/tls/durable-write';
import type { ProcessStore } from '../catalogue/process-store';
import type { ServerConfig } from '../config';
import type { ConsoleServer } from '../console/console-server';
import { Scheduler } from '../jobs/scheduler';
import type { SessionEngine } from '../jobs/session-engine';
import { openFoundation } from './foundation';
import type { Get, Once, ServerEndpoints } from './foundation';
import { registerIdentity } from './identity';
import { registerJobs } from './jobs';
import { registerPorts } from './ports';
import { registerProtection } from './protection';
import { tokens } from './tokens';

const yearMs = 365 * 86_400_000;

/** Everything that a server runs, wired. */
export interface ServerProcess {
  readonly logger: Logger;
  readonly services: readonly Service[];
  readonly console: ConsoleServer;
  readonly engine: SessionEngine;
  /** Plug-ins and movers, and how long their leases last. */
  readonly processes: ProcessStore;
  /** Known once the services run. */
  endpoints(): ServerEndpoints;
}

/** The composition root: the only place that knows who needs whom. Opens catalogue and CA, starts nothing. */
export async function composeServer(config: ServerConfig, given?: Logger): Promise<ServerProcess> {
  const scope = container.createChildContainer();
  const get: Get = (of) => scope.resolve(of);
  const once: Once = (of, make) =>
    void scope.register(of, { useFactory: instanceCachingFactory((c) => make((needed) => c.resolve(needed))) });
  const foundation = await openFoundation(config, get, given);
  registerIdentity(once, foundation);
  registerProtection(once, foundation);
  registerJobs(once, foundation);
  registerPorts(once, foundation);

  const { authority, dataFolder, db, endpoints, logger, now } = foundation;
  const engine = get(tokens.engine);
  const [arrivals, gateways] = [get(tokens.moverArrivals), get(tokens.repositoryGateways)];
  engine.onEnded(({ repositoryId }) => {
    for (const moverId of gateways.leaving(repositoryId)) arrivals.missed(moverId);
  });
  const chores = async () => {
    await authority.renewOwn(now());
    await get(tokens.events).trim();
    await get(tokens.certificates).trim(new Date(now().getTime() - yearMs).toISOString());
  };
  return {
    logger,
    console: get(tokens.console),
    engine,
    processes: get(tokens.processes),
    endpoints,
    services: [
      { name: 'catalogue', start: () => Promise.resolve(), stop: () => db.destroy() },
      {
        name: 'connections',
        start: () => Promise.resolve(),
        stop: async () => {
          get(tokens.pluginConnections).close();
          get(tokens.moverConnections).close();
        },
      },
      {
        name: 'first-user',
        start: async () => {
          const file = path.join(dataFolder, 'initial-admin-password');
          if (await get(tokens.users).ensureAdmin(file)) logger.info('user admin was made; its password is in a file', { file });
        },
        stop: () => Promise.resolve(),
      },
      arrivals,
      get(tokens.enrolmentPort),
      get(tokens.control),
      engine,
      new Scheduler(get(tokens.jobs), engine, get(tokens.preparation), get(tokens.events), logger, now),
      get(tokens.careKeeper),
      repeated('chores', 3_600_000, chores, logger),
      repeated('certificate watch', 6 * 3_600_000, () => get(tokens.watch).warn(), logger),
      repeated('rotation', 2_000, () => get(tokens.rotation).review(), logger),
      get(tokens.console),
      {
        name: 'endpoints',
        start: async () => durableWrite(path.join(dataFolder, 'endpoints.json'), `${JSON.stringify(endpoints(), null, 2)}\n`, 0o644),
        stop: () => Promise.resolve(),
      },
      ...(config.allInOne ? [get(tokens.children)] : []),
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
