import { mkdir, open, rm, stat, statfs, truncate } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { type LayerBitmap, bitmapHealth, requireBitmap } from './bitmap-chain';
import { type DiskChain, HostError, type VolumeFormat, type VolumeId, type VolumeSpec } from './driver';
import type { FleetPaths } from './paths';
import { addBitmap, createImage, enableBitmap, imageInfo, mergeBitmap, qemuFormat, removeBitmap, runTool } from './qemu-img';
import { markBitmapInUse } from './qcow2-bitmap-flags';

/**
 * Volumes as files of a storage domain, and everything done to disks that no VM runs on: layers, merges, bitmaps (vdsm's storage
 * side). Knows nothing of VMs; the caller makes sure that none writes. Backing files are written relative, as vdsm does, so that a
 * domain can be moved as a whole.
 */
export class VolumeStore {
  constructor(readonly paths: FleetPaths) {}

  async create(spec: VolumeSpec): Promise<void> {
    const file = this.paths.volume(spec);
    await mkdir(dirname(file), { recursive: true });
    if (await exists(file)) throw new HostError('QEMU_REFUSED', `Volume ${spec.volumeId} exists already.`);
    if (spec.parent === undefined) {
      await createImage({
        file,
        format: spec.format,
        virtualSizeBytes: spec.virtualSizeBytes,
        preallocated: spec.format === 'raw' && !spec.sparse,
      });
      return;
    }
    const parentInfo = await imageInfo(this.paths.volume(spec.parent));
    const carried = parentInfo.bitmaps.filter((bitmap) => bitmap.consistent).map((bitmap) => bitmap.name);
    await this.createLayer(spec, { ...spec.parent, format: parentInfo.format === 'raw' ? 'raw' : 'cow' }, spec.virtualSizeBytes, carried);
  }

  /** A cow layer over `parent` with empty recording bitmaps; on failure nothing is left. */
  async createLayer(
    volume: VolumeId,
    parent: VolumeId & { format: VolumeFormat },
    virtualSizeBytes: number,
    bitmaps: readonly string[],
  ): Promise<void> {
    const file = this.paths.volume(volume);
    await mkdir(dirname(file), { recursive: true });
    if (await exists(file)) throw new HostError('QEMU_REFUSED', `Volume ${volume.volumeId} exists already.`);
    try {
      await createImage({
        file,
        format: 'cow',
        virtualSizeBytes,
        backing: { file: this.#backingName(volume, parent), format: parent.format },
      });
      for (const name of bitmaps) await addBitmap(file, name);
    } catch (error) {
      await rm(file, { force: true });
      throw error;
    }
  }

  async delete(volume: VolumeId): Promise<void> {
    await rm(this.paths.volume(volume), { force: true });
  }

  /** On failure nothing is left. */
  async copy(source: DiskChain, target: Omit<VolumeSpec, 'parent'>): Promise<void> {
    const leaf = requireLeaf(source);
    await this.create(target);
    try {
      const formats = ['-f', qemuFormat(leaf.format), '-O', qemuFormat(target.format)];
      await runTool('qemu-img', ['convert', '-q', '-n', ...formats, await this.requireFile(leaf), this.paths.volume(target)]);
    } catch (error) {
      await this.delete(target);
      throw error;
    }
  }

  async actualBytes(volume: VolumeId): Promise<number> {
    return (await stat(await this.requireFile(volume))).blocks * 512;
  }

  async freeBytes(domainId: string): Promise<number> {
    await mkdir(this.paths.domain(domainId), { recursive: true });
    const { bavail, bsize } = await statfs(this.paths.domain(domainId));
    return bavail * bsize;
  }

  async resize(volume: VolumeId, format: VolumeFormat, virtualSizeBytes: number): Promise<void> {
    await runTool('qemu-img', ['resize', '-q', '-f', qemuFormat(format), await this.requireFile(volume), String(virtualSizeBytes)]);
  }

  async format(volume: VolumeId): Promise<VolumeFormat> {
    return (await imageInfo(await this.requireFile(volume))).format === 'raw' ? 'raw' : 'cow';
  }

  /** The checks of vdsm's verify_untrusted_volume: an uploaded image must not reach for other files. */
  async verify(volume: VolumeId, format: VolumeFormat): Promise<void> {
    const file = await this.requireFile(volume);
    try {
      const info = await imageInfo(file);
      if (format === 'raw') {
        // A raw volume whose guest bytes look like qcow2 is still raw, but oVirt refuses it.
        if (info.format !== 'raw') throw new HostError('UPLOAD_INVALID', `Volume ${volume.volumeId} is ${info.format}, not raw.`);
        return;
      }
      if (info.format !== 'qcow2') throw new HostError('UPLOAD_INVALID', `Volume ${volume.volumeId} is ${info.format}, not qcow2.`);
      if (info.backingFile !== undefined) throw new HostError('UPLOAD_INVALID', `Volume ${volume.volumeId} names a backing file.`);
      if (info.dataFile !== undefined) throw new HostError('UPLOAD_INVALID', `Volume ${volume.volumeId} names an external data file.`);
      await runTool('qemu-img', ['check', '-q', '-f', 'qcow2', file]);
    } catch (cause) {
      if (cause instanceof HostError && (cause.code === 'UPLOAD_INVALID' || cause.code === 'VM_RUNNING')) throw cause;
      throw new HostError('UPLOAD_INVALID', `Volume ${volume.volumeId} cannot be read as ${format}.`, { cause });
    }
  }

  /** Bitmaps per layer, base first. */
  async layerBitmaps(disk: DiskChain): Promise<LayerBitmap[][]> {
    const layers: LayerBitmap[][] = [];
    for (const layer of disk.chain)
      layers.push(layer.format === 'raw' ? [] : [...(await imageInfo(await this.requireFile(layer))).bitmaps]);
    return layers;
  }

  async addBitmap(disk: DiskChain, name: string): Promise<void> {
    const leaf = requireLeaf(disk);
    if (leaf.format === 'raw') return;
    await addBitmap(await this.requireFile(leaf), name);
  }

  async removeBitmap(disk: DiskChain, name: string): Promise<void> {
    for (const [layer, bitmaps] of zip(disk.chain, await this.layerBitmaps(disk)))
      if (bitmaps.some((bitmap) => bitmap.name === name)) await removeBitmap(this.paths.volume(layer), name);
  }

  async clearBitmaps(disk: DiskChain): Promise<void> {
    for (const [layer, bitmaps] of zip(disk.chain, await this.layerBitmaps(disk)))
      for (const { name } of bitmaps) await removeBitmap(this.paths.volume(layer), name);
  }

  /** Marks the leaf's bitmap as a crashed qemu would leave it. */
  async breakBitmap(disk: DiskChain, name: string): Promise<void> {
    const leaf = requireLeaf(disk);
    const file = await open(await this.requireFile(leaf), 'r+');
    try {
      if (!(await markBitmapInUse(file, name))) throw new HostError('BITMAP_MISSING', `Disk ${disk.diskId} has no bitmap ${name}.`);
    } finally {
      await file.close();
    }
  }

  /** Atomic in the sense that a failure removes the layers made before it. */
  async snapshot(disks: readonly { disk: DiskChain; newLeaf: VolumeId; addBitmap?: string }[]): Promise<void> {
    const made: VolumeId[] = [];
    try {
      for (const { disk, newLeaf, addBitmap: added } of disks) {
        const layers = await this.layerBitmaps(disk);
        await this.createLayer(newLeaf, requireLeaf(disk), disk.virtualSizeBytes, carriedNames(layers, added));
        made.push(newLeaf);
      }
    } catch (error) {
      for (const volume of made) await this.delete(volume);
      throw error;
    }
  }

  /**
   * Commits `top` into its parent. Bitmaps first, those new to the parent disabled until the data is in: a kill in between leaves them
   * not recording, which every incremental refuses, never too small.
   */
  async merge(disk: DiskChain, top: VolumeId): Promise<void> {
    const index = requireMergeable(disk, top);
    const base = disk.chain[index - 1]!;
    const baseFile = await this.requireFile(base);
    const topFile = await this.requireFile(top);
    const layers = await this.layerBitmaps(disk);
    const added: string[] = [];
    if (base.format === 'cow') {
      const plan = mergePlan(layers[index]!, layers[index - 1]!);
      for (const name of plan.drop) await removeBitmap(baseFile, name);
      for (const name of plan.merge) {
        if (plan.missing.has(name)) {
          await addBitmap(baseFile, name, false);
          added.push(name);
        }
        await mergeBitmap(topFile, baseFile, name);
      }
    }
    // -d: the top file is thrown away by the caller, so it need not be emptied.
    await runTool('qemu-img', ['commit', '-q', '-d', '-f', 'qcow2', '-b', baseFile, topFile]);
    for (const name of added) await enableBitmap(baseFile, name);
    const above = disk.chain[index + 1];
    if (above !== undefined) await this.rebase(above, base);
  }

  /** Points a layer at another parent with the same content. */
  async rebase(layer: VolumeId, parent: VolumeId & { format: VolumeFormat }): Promise<void> {
    const args = ['rebase', '-q', '-u', '-f', 'qcow2', '-F', qemuFormat(parent.format), '-b', this.#backingName(layer, parent)];
    await runTool('qemu-img', [...args, await this.requireFile(layer)]);
  }

  /** For a layer that a running qemu commits: what it shall write into the header of the layer above. */
  backingName(layer: VolumeId, parent: VolumeId): string {
    return this.#backingName(layer, parent);
  }

  async dump(disk: DiskChain, file: string): Promise<void> {
    const leaf = requireLeaf(disk);
    await rm(file, { force: true });
    await runTool('qemu-img', ['convert', '-q', '-f', qemuFormat(leaf.format), '-O', 'raw', await this.requireFile(leaf), file]);
    await truncate(file, disk.virtualSizeBytes);
  }

  /**
   * A throw-away overlay over the disk that carries the bitmap merged from all layers, as vdsm makes it for a cold incremental of a
   * disk with snapshots. Returns false when the leaf alone will do and no overlay was made.
   */
  async mergedBitmapOverlay(disk: DiskChain, name: string, overlay: string): Promise<boolean> {
    const depth = requireBitmap(disk, await this.layerBitmaps(disk), name);
    if (depth === 1) return false;
    const leaf = requireLeaf(disk);
    const backing = { file: this.paths.volume(leaf), format: leaf.format };
    await createImage({ file: overlay, format: 'cow', virtualSizeBytes: disk.virtualSizeBytes, backing });
    await addBitmap(overlay, name, false);
    for (const layer of disk.chain.slice(-depth)) await mergeBitmap(this.paths.volume(layer), overlay, name);
    return true;
  }

  async requireFile(volume: VolumeId): Promise<string> {
    const file = this.paths.volume(volume);
    if (!(await exists(file))) throw new HostError('NOT_FOUND', `Volume ${volume.volumeId} of disk ${volume.diskId} does not exist.`);
    return file;
  }

  #backingName(volume: VolumeId, parent: VolumeId): string {
    const from = dirname(this.paths.volume(volume));
    return join(relative(from, dirname(this.paths.volume(parent))), parent.volumeId);
  }
}

export function requireLeaf(disk: DiskChain): DiskChain['chain'][number] {
  const leaf = disk.chain.at(-1);
  if (leaf === undefined) throw new HostError('NOT_FOUND', `Disk ${disk.diskId} has no volume.`);
  return leaf;
}

/** Position of `top` in the chain; it must have a parent. */
export function requireMergeable(disk: DiskChain, top: VolumeId): number {
  const index = disk.chain.findIndex((layer) => layer.volumeId === top.volumeId);
  if (index < 1) throw new HostError('NOT_FOUND', `Volume ${top.volumeId} has no parent in disk ${disk.diskId}.`);
  return index;
}

/** Names that a new leaf takes over: sound ones only, so that a broken bitmap does not come back to life. */
export function carriedNames(layers: readonly (readonly LayerBitmap[])[], added: string | undefined): string[] {
  const names = (layers.at(-1) ?? []).map((bitmap) => bitmap.name).filter((name) => bitmapHealth(layers, name).health === 'good');
  return added === undefined || names.includes(added) ? names : [...names, added];
}

/**
 * What a merge of bitmaps has to do: `merge` names are sound in the top layer, `missing` of them have to be made in the base first,
 * `drop` names would lose the top's changes and must go from the base.
 */
export function mergePlan(
  top: readonly LayerBitmap[],
  base: readonly LayerBitmap[],
): { merge: string[]; missing: Set<string>; drop: string[] } {
  const sound = top.filter((bitmap) => bitmap.consistent && bitmap.recording).map((bitmap) => bitmap.name);
  const broken = new Set(base.filter((bitmap) => !bitmap.consistent || !bitmap.recording).map((bitmap) => bitmap.name));
  return {
    merge: sound.filter((name) => !broken.has(name)),
    missing: new Set(sound.filter((name) => !base.some((bitmap) => bitmap.name === name))),
    drop: base.map((bitmap) => bitmap.name).filter((name) => broken.has(name) || !sound.includes(name)),
  };
}

function zip<A, B>(left: readonly A[], right: readonly B[]): [A, B][] {
  return left.map((value, index) => [value, right[index]!]);
}

async function exists(file: string): Promise<boolean> {
  return await stat(file).then(
    () => true,
    () => false,
  );
}
