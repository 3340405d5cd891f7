/** Everything that may be changed of a repository at any time, in an order in which each step leaves it usable. */
import type { MoverArrivals } from './mover-arrivals';
import type { MoverProblem, RepositoryAccess } from './repository-access';
import type { GatewaysChange, RepositoryGateways } from './repository-gateways';
import type { Repositories, RepositoryView } from './repositories';
import type { GivenAccess } from './repository-secrets';
import { changeSettings, isNoChange, type RepositorySettingsChange } from './repository-settings';

export interface RepositoryChange extends RepositorySettingsChange, GatewaysChange {
  readonly access?: GivenAccess | undefined;
}

export class RepositoryEdit {
  constructor(
    private readonly repositories: Repositories,
    private readonly access: RepositoryAccess,
    private readonly gateways: RepositoryGateways,
    private readonly arrivals: Pick<MoverArrivals, 'missed'>,
  ) {}

  /**
   * What can be refused is refused before anything is changed; what single movers could not follow is told, to them
   * again and again. Throws REPOSITORY_UNKNOWN, ARGUMENT_INVALID,
   * REPOSITORY_ACCESS_REFUSED, MOVER_NOT_FOUND, TARGET_…, and as `Repositories.mover`.
   */
  async apply(reference: string, change: RepositoryChange): Promise<RepositoryView & { readonly problems: readonly MoverProblem[] }> {
    const row = await this.repositories.row(reference);
    if (change.access) this.access.check(row);
    const serving = await this.gateways.planned(row, change);
    if (serving) this.gateways.checkSecrets(row, serving, change.access !== undefined);
    const problems: MoverProblem[] = [];
    // First, since the others may need it; with the gateways to be, so that it is kept for them.
    if (change.access) problems.push(...(await this.access.change({ ...row, ...serving }, change.access)));
    if (!isNoChange(change)) await changeSettings(this.repositories, row.id, change);
    if (serving) problems.push(...(await this.gateways.change(await this.repositories.row(row.id), serving)));
    for (const { moverId } of problems) this.arrivals.missed(moverId);
    return { ...(await this.repositories.show(row.id)), problems };
  }
}
