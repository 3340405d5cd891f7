/** The repositories that this mover serves: creating, attaching, detaching, and attaching them again after a restart. The list is durable. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { durableWrite } from '../../common/tls/durable-write';
import { RepositoryErrors } from '../errors/mover-errors';
import { HEADER_NAME, isBlockSize } from '../format/repository-header';
import { DirectoryStore } from '../stores/directory-store';
import type { Store } from '../stores/store';
import { directoryOf, prepareFolder, requireFolder } from './repository-folder';
import { createRepository, readHeader, Repository, type RepositorySettings } from './repository';
import type { LockWatch } from './repository-lock';
import { SerialQueue } from './serial-queue';

/** Told about repositories that come and go. */
export interface RepositoryListener {
  attached(repository: Repository): Promise<void>;
  /** May refuse by throwing REPOSITORY_IN_USE. */
  detaching(repository: Repository): Promise<void>;
  /** Another mover may have it by now: whatever works with it must stop. */
  lost(repository: Repository): Promise<void>;
}

export interface AttachedRepositoriesOptions {
  readonly dataFolder: string;
  readonly instanceId: string;
  readonly lockLeaseMs: number;
  readonly retryIntervalMs: number;
}

const listSchema = z.object({ locations: z.array(z.string()) });

export class AttachedRepositories implements Service {
  readonly name = 'repositories';
  private readonly byId = new Map<string, Repository>();
  /** Locations to serve, attached or not yet. */
  private readonly locations = new Set<string>();
  /** Foreign locks seen, by location. */
  private readonly lockWatches = new Map<string, LockWatch>();
  private readonly steps = new SerialQueue();
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;

  constructor(
    private readonly options: AttachedRepositoriesOptions,
    private readonly listener: RepositoryListener,
    private readonly logger: Logger,
  ) {}

  /** Attaches what was attached before. One that cannot be attached now is tried again and does not keep the mover from starting. */
  async start(): Promise<void> {
    await this.readList();
    await this.attachMissing();
    this.timer = setInterval(() => void this.attachMissing(), this.options.retryIntervalMs);
    this.timer.unref();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    await this.steps.run(async () => {
      for (const repository of this.byId.values()) await repository.close();
      this.byId.clear();
    });
  }

  /** Throws REPOSITORY_NOT_FOUND. */
  get(repositoryId: string): Repository {
    const repository = this.byId.get(repositoryId);
    if (!repository) throw RepositoryErrors.REPOSITORY_NOT_FOUND({ repository: repositoryId });
    return repository;
  }

  /** Makes and attaches a repository. Throws as RepositoryService.CreateRepository says. */
  create(location: string, requestId: string, settings: RepositorySettings): Promise<Repository> {
    return this.steps.run(async () => {
      checkSettings(settings);
      const folder = directoryOf(location);
      const contents = await prepareFolder(folder, location);
      const store = new DirectoryStore(folder);
      if (contents.includes(HEADER_NAME)) {
        const existing = await readHeader(store);
        if (existing.requestId !== requestId || requestId === '')
          throw RepositoryErrors.REPOSITORY_EXISTS({ repositoryId: existing.repositoryId });
        return this.byId.get(existing.repositoryId) ?? this.open(store);
      }
      // What a create that was cut off leaves is its temporary folder.
      if (contents.some((name) => name !== 'tmp' && name !== 'lost+found'))
        throw RepositoryErrors.REPOSITORY_LOCATION_NOT_EMPTY({ location });
      await createRepository(store, requestId, settings, new Date());
      return this.open(store);
    });
  }

  /** Opens a repository and serves it from now on. Throws as RepositoryService.AttachRepository says. */
  attach(location: string, expectedRepositoryId: string): Promise<Repository> {
    return this.steps.run(async () => {
      const folder = directoryOf(location);
      await requireFolder(folder, location);
      const store = new DirectoryStore(folder);
      const header = await readHeader(store);
      if (expectedRepositoryId !== '' && header.repositoryId !== expectedRepositoryId)
        throw RepositoryErrors.REPOSITORY_NOT_FOUND({ repository: expectedRepositoryId });
      const attached = this.byId.get(header.repositoryId);
      if (attached && attached.store.location !== store.location)
        throw RepositoryErrors.REPOSITORY_LOCATION_INVALID({
          field: 'location',
          location,
          problem: `it is repository ${header.repositoryId} like ${attached.store.location}, which is in use; remove that first`,
        });
      return attached ?? this.open(store);
    });
  }

  detach(repositoryId: string): Promise<void> {
    return this.steps.run(async () => {
      const repository = this.byId.get(repositoryId);
      if (!repository) return;
      await this.listener.detaching(repository);
      this.byId.delete(repositoryId);
      this.locations.delete(repository.store.location);
      this.saveList();
      await repository.close();
    });
  }

  private async open(store: Store): Promise<Repository> {
    const { dataFolder, instanceId, lockLeaseMs } = this.options;
    const watch = this.lockWatches.get(store.location) ?? { text: '', since: 0 };
    this.lockWatches.set(store.location, watch);
    const repository = await Repository.open(store, {
      cacheFolder: path.join(dataFolder, 'cache'),
      lock: { instanceId, leaseDurationMs: lockLeaseMs, waitMs: 2_000, watch },
      logger: this.logger,
    });
    this.lockWatches.delete(store.location);
    try {
      await this.listener.attached(repository);
    } catch (error) {
      await repository.close();
      throw error;
    }
    this.byId.set(repository.id, repository);
    this.locations.add(store.location);
    this.saveList();
    this.logger.info('repository attached', {
      repositoryId: repository.id,
      location: store.location,
      points: repository.points.count,
      packs: repository.index.packs.count,
    });
    return repository;
  }

  private async attachMissing(): Promise<void> {
    await this.steps.run(async () => {
      for (const repository of [...this.byId.values()]) if (repository.isLost) await this.letGo(repository);
      for (const location of this.locations) {
        if (this.stopped || [...this.byId.values()].some((r) => r.store.location === location)) continue;
        try {
          await this.open(new DirectoryStore(directoryOf(location)));
        } catch (error) {
          this.logger.warn('repository cannot be attached now; it is tried again', { location, error });
        }
      }
    });
  }

  /** The lock was lost, probably because the storage hung: stop, and attach again once the lock can be had. */
  private async letGo(repository: Repository): Promise<void> {
    this.logger.warn('the lock of a repository was lost; it is attached again', { repositoryId: repository.id });
    this.byId.delete(repository.id);
    try {
      await this.listener.lost(repository);
      await repository.close();
    } catch (error) {
      this.logger.warn('letting go of a repository failed', { repositoryId: repository.id, error });
    }
  }

  private get listFile(): string {
    return path.join(this.options.dataFolder, 'repositories.json');
  }

  private async readList(): Promise<void> {
    let text: string;
    try {
      text = await fs.readFile(this.listFile, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw CommonErrors.CONFIGURATION_INVALID({ problems: `- ${this.listFile} cannot be read` }, { cause: error });
    }
    try {
      for (const location of listSchema.parse(JSON.parse(text)).locations) this.locations.add(location);
    } catch (cause) {
      throw CommonErrors.CONFIGURATION_INVALID(
        { problems: `- ${this.listFile} is damaged; remove it and attach the repositories again` },
        { cause },
      );
    }
  }

  private saveList(): void {
    durableWrite(this.listFile, JSON.stringify({ locations: [...this.locations] }));
  }
}

function checkSettings(settings: RepositorySettings): void {
  const invalid = (field: string, problem: string) => CommonErrors.ARGUMENT_INVALID({ field, problem });
  if (!isBlockSize(settings.blockSizeBytes)) throw invalid('settings.block_size_bytes', 'it is no power of two from 64 KiB to 4 MiB');
  if (settings.codecLevel < 1 || settings.codecLevel > 19) throw invalid('settings.compression_level', 'it is not from 1 to 19');
}
