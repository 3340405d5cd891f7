/** The repositories that this mover serves: creating, attaching, detaching, and attaching them again after a restart. The list is durable. */
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommonErrors } from '../../../common/errors/common-errors';
import { hasCode } from '../../../common/errors/tidemark-error';
import type { Service } from '../../../common/lifecycle/lifecycle';
import type { Logger } from '../../../common/log/logger';
import type { Secret } from '../../../common/log/redact';
import { EncryptionErrors } from '../../errors/encryption-errors';
import { RepositoryErrors } from '../../errors/mover-errors';
import { isBlockSize } from '../../format/repository-header';
import type { RepositoryKey } from '../../format/key-slot';
import type { S3Access } from '../../stores/s3/bucket';
import { Mounter } from '../../stores/mounts/mounter';
import type { Store } from '../../stores/store';
import { canonicalLocation, openLocation, prepareLocation, type Opener } from './locations';
import { createEncryptedRepository } from '../keys/create-encrypted';
import { assertValidSettings, type SettingsChange } from '../live-settings';
import { openKeys } from '../keys/open-keys';
import { createRepository, readHeader, Repository, type RepositorySettings } from '../repository';
import type { SlotSecret } from '../keys/repository-keys';
import type { LeaseWatch } from '../sharing/lease-object';
import { SerialQueues } from '../../../common/flow/serial-queue';
import { ServedLocations, type Kept } from './served-locations';

/** Told about repositories that come and go. */
export interface RepositoryListener {
  attached(repository: Repository): Promise<void>;
  /** May refuse by throwing REPOSITORY_IN_USE. */
  detaching(repository: Repository): Promise<void>;
  /** The lease on it was lost: whatever works with it must stop. */
  lost(repository: Repository): Promise<void>;
}

export interface AttachedRepositoriesOptions {
  readonly dataFolder: string;
  readonly instanceId: string;
  readonly lockLeaseMs: number;
  /** How long calls on shares that are mounted here wait for a server; absent: a minute. */
  readonly sharePatienceMs?: number;
  readonly retryIntervalMs: number;
}

/** How long repositories may take to close in good order. */
const closingMs = 3_000;
/** How long the start waits for those that were attached before. */
const startingMs = 10_000;

export class AttachedRepositories implements Service {
  readonly name = 'repositories';
  private readonly byId = new Map<string, Repository>();
  private readonly served: ServedLocations;
  private readonly mounter: Mounter;
  /** Foreign holders of our instance id seen, by location. */
  private readonly leaseWatches = new Map<string, LeaseWatch>();
  /** By location: one whose storage does not answer keeps no other waiting. */
  private readonly steps = new SerialQueues();
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;

  constructor(
    private readonly options: AttachedRepositoriesOptions,
    private readonly listener: RepositoryListener,
    private readonly logger: Logger,
  ) {
    this.served = new ServedLocations(options.dataFolder);
    this.mounter = new Mounter(options.dataFolder, options.sharePatienceMs === undefined ? {} : { patienceMs: options.sharePatienceMs });
  }

  /** Attaches what was attached before. One that cannot be attached now is tried again and does not keep the mover from starting. */
  async start(): Promise<void> {
    this.served.load();
    await Promise.race([this.attachMissing(), sleep(startingMs, undefined, { ref: false })]);
    this.timer = setInterval(() => void this.attachMissing(), this.options.retryIntervalMs);
    this.timer.unref();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    // What waits for the server of a share would keep the process from ending.
    const impatience = setTimeout(() => void this.mounter.cutOff(), closingMs);
    try {
      const attached = [...this.byId.values()].map(({ store }) => store.location);
      await Promise.all(
        [...new Set([...attached, ...this.steps.keys])].map((location) => this.steps.run(location, () => this.closeAt(location))),
      );
    } finally {
      clearTimeout(impatience);
    }
  }

  private async closeAt(location: string): Promise<void> {
    for (const repository of [...this.byId.values()]) {
      if (repository.store.location !== location) continue;
      this.byId.delete(repository.id);
      await repository.close();
    }
  }

  /** Throws REPOSITORY_NOT_FOUND. */
  get(repositoryId: string): Repository {
    const repository = this.byId.get(repositoryId);
    if (!repository) throw RepositoryErrors.REPOSITORY_NOT_FOUND({ repository: repositoryId });
    return repository;
  }

  /** Makes and attaches a repository. Throws as RepositoryService.CreateRepository says. */
  async create(
    location: string,
    requestId: string,
    settings: RepositorySettings,
    access?: S3Access,
    key?: SlotSecret,
    change: SettingsChange = {},
  ): Promise<{ repository: Repository; recoveryKey?: Secret }> {
    checkSettings(settings);
    assertValidSettings(change);
    return this.steps.run(canonicalLocation(location), async () => {
      let recoveryKey: Secret | undefined;
      const { store, isEmpty } = await prepareLocation(location, this.opener(access));
      const repository = await this.closingAtFailure(store, async () => {
        const existing = await readHeader(store).catch(unlessNotFound);
        if (existing) {
          if (existing.requestId !== requestId || requestId === '')
            throw RepositoryErrors.REPOSITORY_EXISTS({ repositoryId: existing.repositoryId });
          // The answer with the recovery key may have got lost: who has the key gets another one.
          const again = key && (await openKeys(store, existing, key));
          const opened = this.byId.get(existing.repositoryId) ?? (await this.open(store, { access, key }));
          if (again) recoveryKey = await this.exchangeRecoveryKey(opened);
          return opened;
        }
        if (!isEmpty) throw RepositoryErrors.REPOSITORY_LOCATION_NOT_EMPTY({ location });
        if (key) ({ recoveryKey } = await createEncryptedRepository(store, requestId, settings, key, new Date()));
        else await createRepository(store, requestId, settings, new Date());
        return this.open(store, { access, key });
      });
      if (Object.keys(change).length > 0) await repository.updateSettings(change);
      return recoveryKey ? { repository, recoveryKey } : { repository };
    });
  }

  /** Opens a repository and serves it from now on. Throws as RepositoryService.AttachRepository says. */
  async attach(location: string, expectedRepositoryId: string, givenAccess?: S3Access, givenKey?: RepositoryKey): Promise<Repository> {
    const canonical = canonicalLocation(location);
    return this.steps.run(canonical, async () => {
      const kept = this.served.kept(canonical);
      const access = givenAccess ?? kept.access;
      const store = await openLocation(location, this.opener(access));
      return this.closingAtFailure(store, async () => {
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
        if (!attached) return this.open(store, { access, key: givenKey ?? kept.key });
        if (givenAccess) this.useAccess(attached, givenAccess);
        if (givenKey) await this.useKey(attached, givenKey, access);
        return attached;
      });
    });
  }

  /** Goes over to an access key that opened the location just now. Sessions and their reads and writes go on. */
  private useAccess({ store }: Repository, access: S3Access): void {
    this.served.add(store.location, { ...this.served.kept(store.location), access });
    store.useAccess?.(access);
  }

  /** Goes over to another key of a repository that is attached. */
  private async useKey(repository: Repository, key: RepositoryKey, access: S3Access | undefined): Promise<void> {
    const { keys, id, store } = repository;
    if (!keys) throw EncryptionErrors.REPOSITORY_NOT_ENCRYPTED({ repositoryId: id });
    await keys.reopen(key);
    this.served.add(store.location, { access, key: keys.slotKey });
  }

  private async exchangeRecoveryKey({ keys }: Repository): Promise<Secret | undefined> {
    const slot = keys?.slots.find(({ kind }) => kind === 'recovery');
    return keys?.addRecoveryKey(slot?.slotId ?? randomUUID(), new Date());
  }

  async detach(repositoryId: string): Promise<void> {
    const location = this.byId.get(repositoryId)?.store.location;
    if (location === undefined) return;
    await this.steps.run(location, async () => {
      const repository = this.byId.get(repositoryId);
      if (repository?.store.location !== location) return;
      await this.listener.detaching(repository);
      this.byId.delete(repositoryId);
      try {
        this.served.remove(repository.store.location);
      } finally {
        await repository.close();
      }
    });
  }

  private opener(access: S3Access | undefined): Opener {
    return { access, writer: this.options.instanceId, mounter: this.mounter };
  }

  /** A store that no repository came to use is closed again. */
  private async closingAtFailure(store: Store, work: () => Promise<Repository>): Promise<Repository> {
    let repository: Repository | undefined;
    try {
      repository = await work();
      return repository;
    } finally {
      if (repository?.store !== store) await store.close();
    }
  }

  private async open(store: Store, kept: Kept): Promise<Repository> {
    const { dataFolder, instanceId, lockLeaseMs } = this.options;
    const watch = this.leaseWatches.get(store.location) ?? { text: '', since: 0 };
    this.leaseWatches.set(store.location, watch);
    const repository = await Repository.open(store, {
      cacheFolder: path.join(dataFolder, 'cache'),
      lock: { instanceId, leaseDurationMs: lockLeaseMs, waitMs: 2_000, watch },
      logger: this.logger,
      key: kept.key,
    });
    this.leaseWatches.delete(store.location);
    try {
      await this.listener.attached(repository);
      this.served.add(store.location, { access: kept.access, key: repository.keys?.slotKey });
    } catch (error) {
      // Its store is closed now: nobody may work with it, and the next try makes another one.
      await this.leave(repository);
      throw error;
    }
    this.byId.set(repository.id, repository);
    this.logger.info('repository attached', {
      repositoryId: repository.id,
      location: store.location,
      points: repository.points.count,
      packs: repository.index.packs.count,
    });
    return repository;
  }

  private async attachMissing(): Promise<void> {
    // What is busy is being attached, or let go of; the next time is soon.
    await Promise.all(this.served.all.filter((location) => !this.steps.isBusy(location)).map((location) => this.attachAgain(location)));
  }

  private attachAgain(location: string): Promise<void> {
    return this.steps.run(location, async () => {
      const attached = [...this.byId.values()].find(({ store }) => store.location === location);
      if (attached?.isLost === true) await this.letGo(attached);
      else if (attached) return;
      if (this.stopped || !this.served.all.includes(location)) return;
      try {
        const kept = this.served.kept(location);
        const store = await openLocation(location, this.opener(kept.access));
        await this.closingAtFailure(store, () => this.open(store, kept));
      } catch (error) {
        this.logger.warn('repository cannot be attached now; it is tried again', { location, error });
      }
    });
  }

  /** The lease was lost, probably because the storage hung: stop, and attach again. */
  private async letGo(repository: Repository): Promise<void> {
    this.logger.warn('the lease on a repository was lost; it is attached again', { repositoryId: repository.id });
    this.byId.delete(repository.id);
    await this.leave(repository);
  }

  /** Whatever works with it stops, and it is closed, whatever of that fails. */
  private async leave(repository: Repository): Promise<void> {
    const failed = (error: unknown) => this.logger.warn('letting go of a repository failed', { repositoryId: repository.id, error });
    await this.listener.lost(repository).catch(failed);
    await repository.close().catch(failed);
  }
}

function unlessNotFound(error: unknown): undefined {
  if (!hasCode(error, 'REPOSITORY_NOT_FOUND')) throw error;
}

function checkSettings(settings: RepositorySettings): void {
  const invalid = (field: string, problem: string) => CommonErrors.ARGUMENT_INVALID({ field, problem });
  if (!isBlockSize(settings.blockSizeBytes)) throw invalid('settings.block_size_bytes', 'it is no power of two from 64 KiB to 4 MiB');
  if (settings.codecLevel < 1 || settings.codecLevel > 19) throw invalid('settings.compression_level', 'it is not from 1 to 19');
}
