/**
 * The disk that a worker boots from. The image is uploaded once per storage domain and kept there; each worker gets a copy, which the
 * storage makes. An engine that cannot copy gets the image into each worker's own disk. A kept disk is used only when its description says
 * that it is ours, complete, and of this very image; an upload that broke off is removed.
 */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { Disk } from '../engine/disks';
import type { StorageDomain } from '../engine/storage-domains';
import type { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import type { OperationScope } from '../operations/operation';
import { isDefiniteRefusal } from '../protection/definite';
import { transferPace } from '../protection/patience';
import type { Patience } from '../protection/patience';
import type { WorkerEngine } from './engine-port';
import type { ImageDisks } from './image-disk';
import { KeyedLock } from './keyed-lock';
import { imageDiskDescription, imageDiskName, imageDiskPrefix, parseImageDiskDescription } from './marks';
import type { ImageDiskMark } from './marks';
import { engineMs } from './timing';
import type { WorkerImage } from './worker-image';
import { WorkerVmErrors } from './worker-vm-errors';

export class BootDisks {
  /** Engines that were seen not to copy disks. */
  readonly #withoutCopy = new Set<string>();
  readonly #lock = new KeyedLock();

  constructor(
    private readonly images: ImageDisks,
    private readonly journal: Journal,
    private readonly patience: Patience,
    /** Instance id of this plug-in. */
    private readonly madeBy: string,
    private readonly logger: Logger,
  ) {}

  /** A disk of that name with the image in it, journalled and not attached yet. */
  async make(
    engine: WorkerEngine,
    scope: OperationScope,
    order: { readonly name: string; readonly description: string; readonly domain: StorageDomain; readonly image: WorkerImage },
  ): Promise<JournalEntry> {
    const { platformId } = scope.header;
    if (!this.#withoutCopy.has(platformId)) {
      const { source, copy } = await this.#copyOfKept(engine, scope, order);
      if (copy) return copy;
      this.#withoutCopy.add(platformId);
      this.logger.warn('the engine cannot copy disks; each worker gets the image by an upload of its own', { platformId });
      await this.#remove(engine, source);
    }
    scope.phase('transferring');
    return await this.images.make(engine, scope, order);
  }

  /** The kept image may go between the look for it and the copy, with the last worker of before: then it is uploaded anew, once. */
  async #copyOfKept(
    engine: WorkerEngine,
    scope: OperationScope,
    order: { readonly name: string; readonly description: string; readonly domain: StorageDomain; readonly image: WorkerImage },
  ): Promise<{ source: string; copy: JournalEntry | undefined }> {
    for (let attempt = 1; ; attempt += 1) {
      const source = await this.#kept(engine, scope, order.domain, order.image);
      try {
        return { source, copy: await this.#copy(engine, scope, source, order) };
      } catch (error) {
        const isGone = hasCode(error, 'ENGINE_NOT_FOUND') && !(await engine.disks.find(source, { signal: scope.signal }));
        if (!isGone || attempt > 1) throw error;
      }
    }
  }

  /** Removes kept images of ours that are not of this version, and those that are broken off. Never rejects but for an abort. */
  async tidy(engine: WorkerEngine, platformId: string, current: string | undefined, signal?: AbortSignal): Promise<void> {
    for (const { disk, mark } of await this.#ours(engine, signal)) {
      if (mark.state === 'complete' && (current === undefined || mark.version === current)) continue;
      const key = lockKey(platformId, disk.storageDomainId ?? '');
      // An upload takes minutes; whoever tidies has others to look after, and comes again.
      if (this.#lock.isTaken(key)) continue;
      await this.#lock.run(key, async () => {
        if (!this.#isJournalled(disk.id)) await this.#remove(engine, disk.id);
      });
    }
  }

  /** Removes all of them: the last worker of the platform is gone. */
  async removeAll(engine: WorkerEngine, signal?: AbortSignal): Promise<void> {
    for (const { disk } of await this.#ours(engine, signal)) if (!this.#isJournalled(disk.id)) await this.#remove(engine, disk.id);
  }

  /** The id of the domain's kept image, uploaded now when it is not there. Two that want it at the same time upload it once. */
  #kept(engine: WorkerEngine, scope: OperationScope, domain: StorageDomain, image: WorkerImage): Promise<string> {
    const { signal } = scope;
    const key = lockKey(scope.header.platformId, domain.id);
    if (this.#lock.isTaken(key)) scope.waiting('worker-image');
    const find = async () => {
      scope.waiting('');
      const here = (await this.#ours(engine, signal)).filter(
        ({ disk }) => disk.storageDomainId === domain.id && !this.#isJournalled(disk.id),
      );
      const usable = here.find(
        ({ disk, mark }) =>
          mark.state === 'complete' && mark.version === image.version && mark.sha256 === image.sha256 && disk.status === 'ok',
      );
      if (usable) return usable.disk.id;
      // Nobody uploads now, since we hold the lock: what is incomplete here broke off in an earlier life.
      for (const { disk, mark } of here) if (mark.state === 'uploading') await this.#remove(engine, disk.id);
      scope.phase('transferring');
      const mark = { version: image.version, sha256: image.sha256, madeBy: this.madeBy };
      const name = imageDiskName(image.version);
      const description = imageDiskDescription({ ...mark, state: 'uploading' });
      const entry = await this.images.make(engine, scope, { name, description, domain, image });
      const diskId = entry.objectId ?? '';
      await this.patience.whileConflict({ signal, deadlineMs: engineMs }, () =>
        engine.disks.update(diskId, { description: imageDiskDescription({ ...mark, state: 'complete' }) }, { signal }),
      );
      await this.journal.kept(entry.entryId);
      return diskId;
    };
    return this.#lock.run(key, find, signal);
  }

  /** Undefined when this engine does not know how. */
  async #copy(
    engine: WorkerEngine,
    scope: OperationScope,
    sourceId: string,
    order: { readonly name: string; readonly description: string; readonly domain: StorageDomain },
  ): Promise<JournalEntry | undefined> {
    const { signal, header } = scope;
    const { name, description, domain } = order;
    scope.phase('preparing');
    const entry = await this.journal.intend({
      operationId: header.operationId,
      platformId: header.platformId,
      vmId: '',
      kind: 'disk',
      mark: description,
      details: { name, role: 'worker' },
    });
    try {
      await this.patience.whileConflict({ signal, deadlineMs: engineMs }, async () => {
        // After a lost answer it may be there already.
        if (await findDiskByName(engine, name, signal)) return;
        await this.patience.create(signal, (lingering) =>
          engine.disks.copy(sourceId, { name, storageDomainId: domain.id }, { signal: lingering }),
        );
      });
    } catch (error) {
      const refused = isDefiniteRefusal(error) && !(await findDiskByName(engine, name, undefined));
      if (refused) await this.journal.removed(entry.entryId);
      if (refused && hasCode(error, 'ENGINE_NOT_FOUND', 'ENGINE_REQUEST_INVALID') && (await engine.disks.find(sourceId, { signal }))) {
        return undefined;
      }
      throw error;
    }
    const made = await this.patience.poll({ signal, deadlineMs: engineMs, everyMs: transferPace }, () =>
      findDiskByName(engine, name, signal),
    );
    if (!made) throw WorkerVmErrors.WORKER_DISK_LOST({ name, status: 'not made' });
    await this.journal.created(entry.entryId, made.id);
    await this.images.waitOk(engine, made.id, name, signal);
    // The copy says of itself that it is a kept image until then; its name is another one, so it is never taken for one.
    await this.patience.whileConflict({ signal, deadlineMs: engineMs }, () => engine.disks.update(made.id, { description }, { signal }));
    return { ...entry, objectId: made.id, state: 'created' };
  }

  async #ours(engine: WorkerEngine, signal?: AbortSignal): Promise<{ disk: Disk; mark: ImageDiskMark }[]> {
    const found: { disk: Disk; mark: ImageDiskMark }[] = [];
    for await (const page of engine.disks.pages({ signal, search: `alias=*${imageDiskPrefix}*`, pageSize: 100 })) {
      for (const disk of page) {
        const mark = parseImageDiskDescription(disk.description);
        if (mark?.madeBy === this.madeBy && disk.name === imageDiskName(mark.version)) found.push({ disk, mark });
      }
    }
    return found;
  }

  /** An operation of ours works on it, or the janitor will. */
  #isJournalled(diskId: string): boolean {
    return this.journal.openEntries().some((entry) => entry.kind === 'disk' && entry.objectId === diskId);
  }

  async #remove(engine: WorkerEngine, disk: Disk | string): Promise<void> {
    const diskId = typeof disk === 'string' ? disk : disk.id;
    try {
      await engine.disks.remove(diskId);
    } catch (error) {
      // Locked or away: looked at again at the next tidying.
      if (!isTidemarkError(error)) throw error;
      this.logger.info('an old worker image could not be removed yet', { diskId, code: error.code });
    }
  }
}

/** Names of workers' own disks hold the id of the operation that made them. */
export async function findDiskByName(
  engine: Pick<WorkerEngine, 'disks'>,
  name: string,
  signal: AbortSignal | undefined,
): Promise<Disk | undefined> {
  for await (const page of engine.disks.pages({ signal, search: `alias=*${name}*`, pageSize: 100 })) {
    const found = page.find((disk) => disk.name === name);
    if (found) return found;
  }
  return undefined;
}

function lockKey(platformId: string, storageDomainId: string): string {
  return `${platformId}/${storageDomainId}`;
}
