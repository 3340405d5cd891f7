import { type DiskChain, HostError } from './driver';

/**
 * Health of checkpoint bitmaps over the layers of a disk. As vdsm demands: a checkpoint's bitmap must be there, recording and
 * consistent, from the leaf down without a gap (a layer older than the checkpoint has none).
 */
export interface LayerBitmap {
  readonly name: string;
  readonly recording: boolean;
  readonly consistent: boolean;
}

export type BitmapHealth = 'missing' | 'broken' | 'good';

/** `layers[0]` is the base. `depth`: from how many layers, counted from the leaf, the bitmap must be merged. */
export function bitmapHealth(layers: readonly (readonly LayerBitmap[])[], name: string): { health: BitmapHealth; depth: number } {
  const found = layers.map((bitmaps) => bitmaps.find((bitmap) => bitmap.name === name)).reverse();
  if (found.every((bitmap) => bitmap === undefined)) return { health: 'missing', depth: 0 };
  let depth = found.findIndex((bitmap) => bitmap === undefined);
  if (depth < 0) depth = found.length;
  const gap = found.slice(depth).some((bitmap) => bitmap !== undefined);
  const sound = found.slice(0, depth).every((bitmap) => bitmap!.recording && bitmap!.consistent);
  return { health: !gap && sound && depth > 0 ? 'good' : 'broken', depth };
}

/** The number of layers to merge, or the refusal that the engine hears. */
export function requireBitmap(disk: Pick<DiskChain, 'diskId'>, layers: readonly (readonly LayerBitmap[])[], name: string): number {
  const { health, depth } = bitmapHealth(layers, name);
  if (health === 'missing') throw new HostError('BITMAP_MISSING', `Disk ${disk.diskId} has no bitmap ${name}.`);
  if (health === 'broken') throw new HostError('BITMAP_INCONSISTENT', `Bitmap ${name} of disk ${disk.diskId} is not valid in all layers.`);
  return depth;
}

/** What {@link HostFleet.listBitmaps} tells: each name found in any layer, sound only when all its layers are. */
export function summarizeBitmaps(layers: readonly (readonly LayerBitmap[])[]): { name: string; consistent: boolean; recording: boolean }[] {
  const names = new Set(layers.flatMap((bitmaps) => bitmaps.map((bitmap) => bitmap.name)));
  return [...names].sort().map((name) => {
    const all = layers.flatMap((bitmaps) => bitmaps.filter((bitmap) => bitmap.name === name));
    const recording = all.every((bitmap) => bitmap.recording);
    const leafHasIt = layers.at(-1)?.some((bitmap) => bitmap.name === name) ?? false;
    return { name, recording, consistent: leafHasIt && all.every((bitmap) => bitmap.consistent) };
  });
}
