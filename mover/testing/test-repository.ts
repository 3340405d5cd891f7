import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { loggerTo, type Logger } from '../../common/log/logger';
import { Secret } from '../../common/log/redact';
import { BlockKind, blockDigest, isZero, storeForm, ZERO_DIGEST } from '../format/block';
import type { PointDiskRecord } from '../format/manifest';
import { createEncryptedRepository } from '../repository/keys/create-encrypted';
import { writerName } from '../repository/sharing/writer-lease';
import { createRepository, readHeader, Repository, type OpenOptions } from '../repository/repository';
import type { DiskDraft } from '../sessions/disk-draft';
import type { PointDraft, Session } from '../sessions/session';
import { SessionManager, type SessionManagerOptions } from '../sessions/session-manager';
import { makeFolder } from '../stores/make-folder';
import type { RepositoryKey } from '../format/key-slot';
import { DirectoryStore, type StepObserver } from '../stores/directory-store';
import type { Store } from '../stores/store';

/** A key file's content, for repositories that are encrypted. */
export const testKey: RepositoryKey = { kind: 'key-file', secret: new Secret('5a'.repeat(32)) };

export const quiet: Logger = loggerTo(() => undefined);

export interface TestRepositoryOptions extends Partial<OpenOptions> {
  readonly step?: StepObserver;
  /** Where it lies; absent: in a folder. */
  readonly store?: Store;
  readonly blockSizeBytes?: number;
  readonly sessions?: Partial<SessionManagerOptions>;
}

/** A repository with its sessions, without network; for tests of what lies on the disk. */
export class TestRepository {
  private constructor(
    readonly repository: Repository,
    readonly sessions: SessionManager,
  ) {}

  /** Opens the repository below `folder`, making it first when there is none. */
  static async open(folder: string, options: TestRepositoryOptions = {}): Promise<TestRepository> {
    const root = path.join(folder, 'repository');
    await makeFolder(root);
    const store =
      options.store ??
      new DirectoryStore(root, { writer: options.lock?.instanceId ?? 'test', ...(options.step && { step: options.step }) });
    const settings = { blockSizeBytes: options.blockSizeBytes ?? 65_536, codec: 'zstd' as const, codecLevel: 1 };
    const { key } = options;
    const isThere = await readHeader(store).then(
      () => true,
      () => false,
    );
    if (!isThere && key && key.kind !== 'slot-key')
      await createEncryptedRepository(store, 'test', settings, { ...key, kind: key.kind }, new Date());
    const made = key ? await readHeader(store) : await createRepository(store, 'test', settings, new Date());
    const repository = await Repository.open(store, {
      cacheFolder: path.join(folder, 'cache'),
      lock: { instanceId: 'test', leaseDurationMs: 30_000, waitMs: 0 },
      logger: quiet,
      ...options,
    });
    if (made.repositoryId !== repository.id) throw new Error('another repository was there');
    const scratchFolder = path.join(folder, 'scratch');
    const sessions = new SessionManager({ scratchFolder, minimumFreeBytes: 0, ...options.sessions }, quiet);
    await sessions.load(repository);
    return new TestRepository(repository, sessions);
  }

  openSession(pointIds: string[] = [], sessionId: string = randomUUID()): Promise<Session> {
    return this.sessions.open(this.repository, { sessionId, kind: 'backup', pointIds, leaseDurationMs: 60_000 });
  }

  async openDisk(session: Session, diskId: string, sizeBytes: number, basePointId = ''): Promise<DiskDraft> {
    const draft = await session.openDisk({ diskId, sizeBytes, basePointId, baseDiskId: basePointId === '' ? '' : diskId, contentId: '' });
    if (draft === 'committed') throw new Error('committed already');
    return draft;
  }

  digestOf(raw: Buffer): Buffer {
    return isZero(raw) ? ZERO_DIGEST : blockDigest(this.repository.digestKey, raw);
  }

  /** Offers a block and puts it when asked to. */
  async send(draft: DiskDraft, block: number, raw: Buffer, owner: object): Promise<void> {
    const digest = this.digestOf(raw);
    if (draft.offer(block, digest, owner) !== 'put') return;
    const { codec, payload } = storeForm(raw, this.repository.codec, this.repository.codecLevel);
    await this.repository.blocks.putBlock({ digest, codec, kind: BlockKind.data, rawLength: raw.length, payload });
    draft.noteStored(digest, payload.length);
  }

  async commitDisk(session: Session, draft: DiskDraft): Promise<void> {
    const result = await session.commitDisk(draft, 1000);
    if ('missing' in result) throw new Error(`missing ${result.missing.join()}`);
  }

  async commit(session: Session, disks: { diskId: string; sizeBytes: number }[], pointId: string = randomUUID()): Promise<string> {
    await session.commit(pointDraft(pointId, disks), `{"point":"${pointId}"}`);
    return pointId;
  }

  /** One disk, one session, one point. */
  async backup(sizeBytes: number, blocks: ReadonlyMap<number, Buffer>, basePointId = '', pointId?: string): Promise<string> {
    const session = await this.openSession(basePointId === '' ? [] : [basePointId]);
    const draft = await this.openDisk(session, 'disk', sizeBytes, basePointId);
    const owner = {};
    for (const [block, raw] of blocks) await this.send(draft, block, raw, owner);
    await this.commitDisk(session, draft);
    return this.commit(session, [{ diskId: 'disk', sizeBytes }], pointId);
  }

  /** A disk of a point, every block checked. */
  async read(pointId: string, diskId = 'disk'): Promise<Buffer> {
    return readImage(this.repository, (await this.repository.points.readDisk(pointId, diskId)).disk);
  }

  /** Leaves everything as a kill would; since this process lives on, the lease is made to say that its holder was another one. */
  async vanish(): Promise<void> {
    const { blocks, store, writerId = '' } = this.repository;
    await blocks.abandon();
    const lease = JSON.parse((await store.readWhole(writerName(writerId), 4096)).toString('utf8')) as object;
    await store.put(writerName(writerId), Buffer.from(JSON.stringify({ ...lease, processStartedAt: 'before' })));
    await store.close();
  }

  async close(): Promise<void> {
    await this.sessions.stop();
    await this.repository.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

export async function readImage(repository: Repository, disk: PointDiskRecord): Promise<Buffer> {
  const image = Buffer.alloc(disk.sizeBytes);
  const tree = repository.tree(disk);
  for (let block = await tree.nextAllocated(0); block < tree.blocks; block = await tree.nextAllocated(block + 1)) {
    const digest = await tree.blockDigest(block);
    (await repository.blocks.readChecked(digest)).raw.copy(image, block * repository.blockSizeBytes);
  }
  return image;
}

export function pointDraft(pointId: string, disks: { diskId: string; sizeBytes: number }[]): PointDraft {
  return {
    pointId,
    platformId: 'platform',
    vmId: 'vm',
    vmName: 'a vm',
    jobName: 'job',
    checkpointId: '',
    pointInTime: '2026-11-21T04:30:43.000Z',
    consistency: 'crash',
    disks: disks.map((d) => ({
      ...d,
      name: d.diskId,
      format: 'raw',
      sparse: true,
      storageDomainId: '',
      interface: 'virtio',
      bootable: false,
      readMode: 'full' as const,
      reason: '',
      counters: { plannedBytes: 0, readBytes: 0, transferredBytes: 0, storedBytes: 0, zeroBytes: 0, deduplicatedBytes: 0 },
    })),
  };
}
