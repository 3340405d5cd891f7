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
import type { Store } from '../stores/store';
import type { RepositoryKeys } from './repository-keys';

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

  private constructor(
    private readonly store: Store,
    /** Object names by point id. */
    private readonly names: Map<string, string>,
    private readonly keys: RepositoryKeys | undefined,
  ) {}

  /** `keys` in an encrypted repository. */
  static async load(store: Store, keys?: RepositoryKeys): Promise<PointCatalog> {
    const catalog = new PointCatalog(store, new Map(), keys);
    await catalog.reload();
    return catalog;
  }

  /** Finds manifests that nobody told of. */
  async reload(): Promise<void> {
    for await (const name of this.store.list(MANIFEST_PREFIX)) this.note(name);
  }

  get count(): number {
    return this.names.size;
  }

  has(pointId: string): boolean {
    return this.names.has(pointId);
  }

  /** Ids, oldest commit first. */
  ids(): string[] {
    return [...this.names].sort(([, a], [, b]) => (a < b ? -1 : 1)).map(([id]) => id);
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
  }

  /** A point without its configuration. Throws POINT_NOT_FOUND, MANIFEST_DAMAGED. */
  async read(pointId: string): Promise<PointRecord> {
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

  /** Another mover deleted a point. */
  forget(pointId: string): void {
    this.names.delete(pointId);
    this.vms.delete(pointId);
  }

  private nameOf(pointId: string): string {
    const name = this.names.get(pointId);
    if (name === undefined) throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
    return name;
  }

  private async missing<T>(pointId: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (hasCode(error, 'OBJECT_NOT_FOUND'))
        throw RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: 'it is missing' }, { cause: error });
      if (hasCode(error, 'OBJECT_DAMAGED'))
        throw RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: String(error.meta['problem']) }, { cause: error });
      throw error;
    }
  }
}
