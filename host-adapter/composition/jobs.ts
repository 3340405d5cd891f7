import { JobStore } from '../catalogue/job-store';
import { SessionStore } from '../catalogue/session-store';
import { PathKeeper } from '../data-paths/path-keeper';
import { BackupCommit } from '../jobs/backup-commit';
import { BackupFlow } from '../jobs/backup-flow';
import { JobSelection } from '../jobs/job-selection';
import { OperationFollower } from '../jobs/operation-follower';
import { SessionEngine } from '../jobs/session-engine';
import { Slots } from '../jobs/slots';
import { TaskRunner } from '../jobs/task-runner';
import { VerifyFlow } from '../jobs/verify-flow';
import { CollectFlow } from '../maintenance/collect-flow';
import { RestoreFlow } from '../restores/restore-flow';
import { RestorePlanner } from '../restores/restore-planner';
import { Fleet } from '../workers/fleet';
import { WorkerFlow } from '../workers/worker-flow';
import { WorkerPlanner } from '../workers/worker-planner';
import { WorkerPreparation } from '../workers/worker-preparation';
import type { Foundation, Once } from './foundation';
import { tokens } from './tokens';

/** What runs: jobs and sessions, restores, the fleet of workers. */
export function registerJobs(once: Once, foundation: Foundation): void {
  const { logger, now, db, settings } = foundation;
  once(tokens.jobs, () => new JobStore(db));
  once(tokens.sessions, () => new SessionStore(db));
  once(tokens.follower, (get) => {
    const keeper = new PathKeeper(get(tokens.paths), get(tokens.moverSessions), get(tokens.movers), logger);
    return new OperationFollower(keeper, logger);
  });
  once(tokens.selection, (get) => new JobSelection(get(tokens.platforms), get(tokens.vms)));
  once(tokens.preparation, (get) => new WorkerPreparation(get(tokens.platforms), get(tokens.selection), logger));
  once(tokens.fleet, (get) => new Fleet(get(tokens.pluginConnections), get(tokens.platforms)));
  once(tokens.workerPlanner, (get) => new WorkerPlanner(get(tokens.fleet), get(tokens.platforms)));
  once(tokens.slots, () => new Slots());
  once(tokens.engine, (get) => {
    const repositories = get(tokens.repositories);
    const follower = get(tokens.follower);
    const moverSessions = get(tokens.moverSessions);
    const paths = get(tokens.paths);
    const slots = get(tokens.slots);
    const platforms = get(tokens.platforms);
    const flows = {
      backup: new BackupFlow(
        platforms,
        repositories,
        new BackupCommit(platforms, repositories, moverSessions, get(tokens.points), get(tokens.moverArrivals), logger),
        paths,
        follower,
        get(tokens.jobs),
        get(tokens.sessions),
        slots,
        logger,
      ),
      restore: new RestoreFlow(get(tokens.pluginConnections), repositories, paths, follower, slots, logger),
      verify: new VerifyFlow(repositories, get(tokens.points)),
      collect: new CollectFlow(repositories),
      worker: new WorkerFlow(get(tokens.pluginConnections), follower, logger),
    };
    return new SessionEngine(
      get(tokens.sessions),
      get(tokens.jobs),
      settings,
      repositories,
      get(tokens.selection),
      get(tokens.preparation),
      flows,
      new TaskRunner(logger),
      logger,
      now,
    );
  });
  once(tokens.planner, (get) => new RestorePlanner(get(tokens.points), get(tokens.platforms), get(tokens.pluginConnections)));
}
