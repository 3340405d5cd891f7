/**
 * What has to be made up for when a mover came (back), done until it worked: changes that it missed, and the points of what it serves, which somebody
 * else may have changed meanwhile. Whoever merely registered may still be coming up, wait for its storage or be gone again.
 */
import type { Logger } from '../../common/log/logger';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { MoverRegistry } from '../registry/mover-registry';
import type { Repositories } from './repositories';
import type { RepositoryAccess } from './repository-access';
import type { RepositoryGateways } from './repository-gateways';
import { RetriedWork } from './retried-work';

export class MoverArrivals implements Service {
  readonly name = 'arrivals of movers';
  readonly #missed: RetriedWork;
  readonly #points: RetriedWork;

  constructor(
    private readonly registry: MoverRegistry,
    private readonly gateways: RepositoryGateways,
    private readonly access: RepositoryAccess,
    private readonly repositories: Repositories,
    logger: Logger,
  ) {
    this.#missed = new RetriedWork({
      name: 'telling a mover what it missed',
      work: (moverId) => this.#tell(moverId),
      failed: (moverId, error) => logger.warn('a mover that came could not be told what changed; trying again', { moverId, error }),
    });
    this.#points = new RetriedWork({
      name: 'reading points',
      work: (repositoryId) => this.#read(repositoryId),
      failed: (repositoryId, error) => logger.warn('points could not be read; trying again', { repositoryId, error }),
    });
    registry.onRegistered((moverId) => this.#missed.want(moverId));
  }

  /** A mover could not follow a change of what it serves: it is told again. */
  missed(moverId: string): void {
    this.#missed.want(moverId);
  }

  /** The points of a repository are to be read again, soon: what the catalogue has may be old. */
  readAgain(repositoryId: string): void {
    this.#points.want(repositoryId);
  }

  async start(): Promise<void> {
    await Promise.all([this.#missed.start(), this.#points.start()]);
    // Who kept its lease while the server was away, or was exchanged for one made from a copy of its configuration, does not register again.
    for (const { identity, connected } of await this.registry.list()) if (connected) this.#missed.want(identity.id);
  }

  async stop(): Promise<void> {
    await Promise.all([this.#missed.stop(), this.#points.stop()]);
  }

  async #tell(moverId: string): Promise<void> {
    // One that is gone again is told when it comes back.
    if (!(await this.registry.isConnected(moverId))) return;
    try {
      await this.gateways.moverCame(moverId);
      await this.access.moverCame(moverId);
    } finally {
      for (const repositoryId of await this.repositories.servedBy(moverId)) this.readAgain(repositoryId);
    }
  }

  async #read(repositoryId: string): Promise<void> {
    try {
      await this.repositories.refreshPoints(repositoryId);
    } catch (error) {
      // Nobody serves it now: whoever comes next wants it again.
      if (!hasCode(error, 'REPOSITORY_UNKNOWN', 'MOVER_LOST', 'GATEWAY_MISSING')) throw error;
    }
  }
}
