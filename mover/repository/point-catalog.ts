/** The restore points of a repository: which manifests there are, reading them, adding one. Holds names only; the manifests are the truth. */
import { hasCode, isTidemarkError } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import {
  decodeManifest,
  decodePointSection,
  encodeManifest,
  MANIFEST_PREFIX,
  MANIFEST_START_BYTES,
  manifestName,
  pointIdOf,
  pointSectionLength,
  type PointDiskRecord,
  type PointRecord,
} from '../format/manifest';
import { tombstoneName, tombstoneOf } from '../format/tombstone';
import type { Store } from '../stores/store';
import type { RepositoryKeys } from './keys/repository-keys';
import { Tombstones } from './sharing/tombstones';

const maxManifestBytes = 128 * 1024 * 1024;
/** Nearly every point section fits into the first read. */
const firstReadBytes = 16 * 1024;

/** A point, or why its manifest cannot be trusted. */
export type ListedPoint = { readonly point: PointRecord } | { readonly damaged: { readonly pointId: string; readonly message: string } };

export class PointCatalog {
  /** VM of each point that was read once: a manifest never changes, and listing one VM must not read those of all others. */
  private readonly vms = new Map<string, string>();
  /** One string per VM. */
  private readonly vmIds = new Map<string, string>();

  /** Object names by point id, those of removed points too. */
  private readonly names = new Map<string, string>();
  /** Points that have to be there and have no manifest, as the last look for them found. */
  private lost: readonly string[] = [];
  /** Which points were removed. */
  readonly tombstones: Tombstones;

  private constructor(
    private readonly store: Store,
    private readonly keys: RepositoryKeys | undefined,
  ) {
    this.tombstones = new Tombstones(store, keys);
  }

  /** `keys` in an encrypted repository. */
  static async load(store: Store, keys?: RepositoryKeys): Promise<PointCatalog> {
    const catalog = new PointCatalog(store, keys);
    await catalog.reload();
    return catalog;
  }

  /** Finds what nobody told of: manifests and tombstones that were made, and manifests that are gone. */
  async reload(): Promise<void> {
    // Tombstones first: they are deleted after the manifest, so that what is listed next without one is really there.
    await this.tombstones.reload();
    const gone = new Set(this.names.values());
    for await (const name of this.store.list(MANIFEST_PREFIX)) {
      this.note(name);
      gone.delete(name);
    }
    await this.look(gone);
  }

  /** Without removed ones, like everything here that does not say otherwise. */
  get count(): number {
    let count = this.names.size;
    for (const id of this.tombstones.ids()) if (this.names.has(id)) count--;
    return count;
  }

  has(pointId: string): boolean {
    return this.names.has(pointId) && !this.tombstones.has(pointId);
  }

  /** True for a removed point too, as long as its manifest is there as far as this mover has heard. */
  hasManifest(pointId: string): boolean {
    return this.names.has(pointId);
  }

  /** Ids of all points that have a manifest, removed ones too. */
  allIds(): string[] {
    return [...this.names.keys()];
  }

  /** Ids, oldest commit first. */
  ids(): string[] {
    return [...this.names]
      .filter(([id]) => !this.tombstones.has(id))
      .sort(([, a], [, b]) => (a < b ? -1 : 1))
      .map(([id]) => id);
  }

  /** Ids of points that were removed and are not deleted yet. */
  removedIds(): string[] {
    return this.tombstones.ids().filter((id) => this.names.has(id));
  }

  /** Points of one VM or (empty) of all, oldest commit first; one that cannot be read is listed as damaged, never left out. Throws REPOSITORY_IO. */
  async *list(vmId = ''): AsyncGenerator<ListedPoint> {
    for (const pointId of this.ids()) {
      if (vmId !== '' && (this.vms.get(pointId) ?? vmId) !== vmId) continue;
      try {
        const point = await this.read(pointId);
        this.noteVm(point);
        if (vmId === '' || point.vmId === vmId) yield { point };
      } catch (error) {
        if (!isTidemarkError(error) || error.code === 'REPOSITORY_IO') throw error;
        yield { damaged: { pointId, message: error.message } };
      }
    }
    for (const pointId of this.lost) {
      if (this.names.has(pointId) || this.tombstones.has(pointId)) continue;
      const { message } = RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: 'it is missing' });
      yield { damaged: { pointId, message } };
    }
  }

  /** Points whose manifests are gone though nobody removed them: they are listed as damaged from now on, so that somebody hears of it and can remove them. */
  noteMissing(pointIds: readonly string[]): void {
    this.lost = pointIds;
  }

  /** A point without its configuration. Throws POINT_NOT_FOUND, MANIFEST_DAMAGED. */
  async read(pointId: string): Promise<PointRecord> {
    this.assertNotRemoved(pointId);
    return this.readRemoved(pointId);
  }

  /** As `read`, for a removed point too. */
  async readRemoved(pointId: string): Promise<PointRecord> {
    const name = this.nameOf(pointId);
    return this.missing(pointId, async () => {
      const start = Buffer.alloc(firstReadBytes);
      const length = await this.store.read(name, 0, start);
      const needed = pointSectionLength(start.subarray(0, Math.min(length, MANIFEST_START_BYTES)), pointId);
      if (needed <= length) return decodePointSection(start.subarray(0, length), pointId, this.keys?.document(name));
      if (needed > maxManifestBytes) throw RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: 'it is too long' });
      const whole = Buffer.alloc(needed);
      const found = await this.store.read(name, 0, whole);
      return decodePointSection(whole.subarray(0, found), pointId, this.keys?.document(name));
    });
  }

  /** A point with its configuration, which may hold secrets. Throws POINT_NOT_FOUND, MANIFEST_DAMAGED. */
  async readWhole(pointId: string): Promise<{ point: PointRecord; configuration: string }> {
    this.assertNotRemoved(pointId);
    const name = this.nameOf(pointId);
    return this.missing(pointId, async () =>
      decodeManifest(await this.store.readWhole(name, maxManifestBytes), pointId, this.keys?.document(name)),
    );
  }

  /** One disk of a point. Throws POINT_NOT_FOUND also when the point has no such disk. */
  async readDisk(pointId: string, diskId: string): Promise<{ point: PointRecord; disk: PointDiskRecord }> {
    const point = await this.read(pointId);
    const disk = point.disks.find((d) => d.diskId === diskId);
    if (!disk) throw RepositoryErrors.POINT_NOT_FOUND({ pointId, diskId });
    return { point, disk };
  }

  /** The name that a new point's manifest will have. */
  nameFor(point: PointRecord): string {
    return this.names.get(point.pointId) ?? manifestName(new Date(point.committedAt), point.pointId);
  }

  /** Writes the manifest. When it resolves the point exists, durably; when it rejects it may or may not. */
  async add(point: PointRecord, configuration: string, name: string): Promise<void> {
    await this.store.put(name, encodeManifest(point, configuration, this.keys?.document(name)));
    this.names.set(point.pointId, name);
    this.noteVm(point);
  }

  private noteVm({ pointId, vmId }: PointRecord): void {
    let known = this.vmIds.get(vmId);
    if (known === undefined) this.vmIds.set(vmId, (known = vmId));
    this.vms.set(pointId, known);
  }

  /** Another mover made a point. */
  note(name: string): void {
    const id = pointIdOf(name);
    if (id !== undefined) this.names.set(id, name);
  }

  /** Other movers made, changed or deleted these objects; names of other things are passed over. */
  async look(objects: Iterable<string>): Promise<void> {
    for (const name of objects) {
      const removed = tombstoneOf(name);
      if (removed !== undefined) await this.tombstones.look(removed);
      const pointId = pointIdOf(name);
      if (pointId === undefined) continue;
      try {
        await this.store.sizeOf(name);
        this.note(name);
      } catch (error) {
        if (!hasCode(error, 'OBJECT_NOT_FOUND')) throw error;
        this.forget(pointId);
      }
    }
  }

  /** Deletes the manifest of a removed point for good, then its tombstone. Resolves with the names of both. */
  async deleteRemoved(pointId: string): Promise<string[]> {
    const name = this.names.get(pointId);
    // In this order: without its tombstone the point would be back.
    if (name !== undefined) await this.store.delete(name);
    await this.tombstones.delete(pointId);
    this.forget(pointId);
    return [...(name === undefined ? [] : [name]), tombstoneName(pointId)];
  }

  /** A point was deleted. */
  forget(pointId: string): void {
    this.names.delete(pointId);
    this.vms.delete(pointId);
  }

  private assertNotRemoved(pointId: string): void {
    if (this.tombstones.has(pointId)) throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
  }

  private nameOf(pointId: string): string {
    const name = this.names.get(pointId);
    if (name === undefined) throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
    return name;
  }

  /** Another mover may have rotated the keys since they were read here: then they are read again. */
  private async withNewKeys<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!this.keys || !hasCode(error, 'MANIFEST_DAMAGED')) throw error;
      await this.keys.reload();
      return work();
    }
  }

  private async missing<T>(pointId: string, work: () => Promise<T>): Promise<T> {
    try {
      return await this.withNewKeys(work);
    } catch (error) {
      if (hasCode(error, 'OBJECT_NOT_FOUND'))
        throw RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: 'it is missing' }, { cause: error });
      if (hasCode(error, 'OBJECT_DAMAGED'))
        throw RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: String(error.meta['problem']) }, { cause: error });
      throw error;
    }
  }
}
