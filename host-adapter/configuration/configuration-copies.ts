/**
 * Copies of the server's configuration in the repositories, so that a new server can be made from any of them. Each is sealed for the configuration's key,
 * also in a repository in the clear: it holds the CA's key and the passwords of platforms.
 */
import { productVersion } from '../../common/lifecycle/process-info';
import type { Logger } from '../../common/log/logger';
import { toTidemarkError } from '../../common/errors/common-errors';
import type { CareStore } from '../catalogue/care-store';
import type { Database } from '../catalogue/catalogue';
import type { EventStore } from '../catalogue/event-store';
import type { RepositoryRow } from '../catalogue/repository-store';
import { storedFailure } from '../jobs/task-context';
import type { StoredFailure } from '../jobs/task-record';
import type { Repositories } from '../repositories/repositories';
import type { ConfigurationKey } from './configuration-key';
import { copyName, isCopyOf, COPY_FOLDER } from './copy-name';
import { sealEnvelope } from './envelope';
import { encodeSnapshot, takeSnapshot } from './snapshot';

/** Two weeks of nights, of one server in one repository. */
export const keptCopies = 14;

export interface CopyResult {
  readonly repositoryId: string;
  readonly repositoryName: string;
  /** Of the document; null when it failed. */
  readonly name: string | null;
  readonly failure: StoredFailure | null;
}

export class ConfigurationCopies {
  constructor(
    private readonly source: {
      readonly db: Database;
      readonly dataFolder: string;
      readonly installationId: string;
      /** The configuration file's content, without the data folder. */
      readonly server: Readonly<Record<string, unknown>>;
    },
    private readonly key: ConfigurationKey,
    private readonly repositories: Repositories,
    private readonly care: CareStore,
    private readonly events: EventStore,
    private readonly logger: Logger,
    private readonly now: () => Date,
  ) {}

  /** Into one repository; never rejects: a failure is kept, an event, and in the result. */
  async copyTo(row: Pick<RepositoryRow, 'id' | 'name'>): Promise<CopyResult> {
    const at = this.now();
    const result = { repositoryId: row.id, repositoryName: row.name };
    await this.care.tried(row.id, 'copy', at.toISOString());
    try {
      const name = await this.put(row.id, at);
      await this.care.done(row.id, 'copy', this.now().toISOString());
      return { ...result, name, failure: null };
    } catch (thrown) {
      const error = toTidemarkError(thrown, 'copying the configuration');
      const failure = storedFailure(error);
      this.logger.error('the configuration could not be copied', { repositoryId: row.id, error });
      await this.care.failed(row.id, 'copy', failure);
      await this.events.add({
        at: this.now(),
        source: 'host',
        severity: 'error',
        code: 'CONFIGURATION_NOT_COPIED',
        message: `The configuration was not copied into repository ${row.name}: ${error.message}`,
        references: { repository_id: row.id, repository_name: row.name, failure_code: error.code },
      });
      return { ...result, name: null, failure };
    }
  }

  private async put(repositoryId: string, at: Date): Promise<string> {
    const { db, dataFolder, installationId, server } = this.source;
    const content = encodeSnapshot(await takeSnapshot(db, dataFolder, server));
    const head = { createdAt: at.toISOString(), installationId, productVersion: productVersion() };
    const name = copyName(at, installationId);
    const { documents } = await this.repositories.mover(repositoryId);
    const sealed = sealEnvelope(head, content, this.key);
    await documents.call('PutDocument', { repositoryId, name, content: sealed }, { deadlineMs: 60_000, attempts: 3 });
    const { names } = await documents.call('ListDocuments', { repositoryId, folder: COPY_FOLDER }, { deadlineMs: 15_000, attempts: 3 });
    // Names sort by age. Those of other servers are theirs to remove.
    const own = names.filter((one) => isCopyOf(one, installationId));
    for (const old of own.slice(0, -keptCopies)) {
      await documents.call('RemoveDocument', { repositoryId, name: old }, { deadlineMs: 15_000, attempts: 3 });
    }
    return name;
  }
}
