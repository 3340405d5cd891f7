import { RepositoryErrors } from '../errors/mover-errors';
import type { SettingsDocument } from '../format/settings-document';
import type { Store } from '../stores/store';

const gib = 1024 ** 3;

/** Free space against the watermarks: plenty, less than one should have, too little to begin another backup. */
export type SpaceLevel = 'enough' | 'low' | 'full';

export interface SpaceState {
  readonly level: SpaceLevel;
  /** Undefined when nobody can tell: a bucket without a capacity. */
  readonly freeBytes: number | undefined;
  /** The watermarks in force. */
  readonly softFreeBytes: number;
  readonly hardFreeBytes: number;
}

/** What `spaceState` needs of a repository. */
export interface SpaceSource {
  readonly store: Pick<Store, 'freeBytes' | 'totalBytes'>;
  readonly settings: { readonly all: Pick<SettingsDocument, 'softFreeBytes' | 'hardFreeBytes' | 'capacityBytes'> };
  readonly index: { readonly packs: { readonly totalBytes: number } };
}

/**
 * Free space of a repository: what the device has left, and no more than is left of the capacity that was set. Watermarks that were not set are 10 %
 * and 2 % of the size, at most 100 and 20 GiB. Throws REPOSITORY_IO.
 */
export async function spaceState({ store, settings, index }: SpaceSource): Promise<SpaceState> {
  const { softFreeBytes, hardFreeBytes, capacityBytes } = settings.all;
  const [deviceFree, deviceTotal] = [await store.freeBytes(), await store.totalBytes()];
  const capacityFree = capacityBytes === 0 ? undefined : Math.max(0, capacityBytes - index.packs.totalBytes);
  const freeBytes = least(deviceFree, capacityFree);
  const total = least(deviceTotal, capacityBytes === 0 ? undefined : capacityBytes) ?? 0;
  const hard = hardFreeBytes === 0 ? Math.min(total * 0.02, 20 * gib) : hardFreeBytes;
  const soft = Math.max(hard, softFreeBytes === 0 ? Math.min(total * 0.1, 100 * gib) : softFreeBytes);
  const marks = { softFreeBytes: Math.floor(soft), hardFreeBytes: Math.floor(hard) };
  if (freeBytes === undefined) return { level: 'enough', freeBytes, ...marks };
  return { level: freeBytes < marks.hardFreeBytes ? 'full' : freeBytes < marks.softFreeBytes ? 'low' : 'enough', freeBytes, ...marks };
}

/**
 * Throws REPOSITORY_FULL when no backup may begin any more; those that run go on. `floorBytes` is what the mover itself wants to see free, whatever
 * the repository's mark is.
 */
export async function assertSpace(source: SpaceSource, floorBytes: number): Promise<void> {
  const { freeBytes, hardFreeBytes } = await spaceState(source);
  const neededBytes = Math.max(hardFreeBytes, floorBytes);
  if (freeBytes === undefined || freeBytes >= neededBytes) return;
  throw RepositoryErrors.REPOSITORY_FULL({ what: `${inWords(freeBytes)} free, ${inWords(neededBytes)} needed`, freeBytes, neededBytes });
}

function least(...values: (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

function inWords(bytes: number): string {
  return bytes >= gib ? `${(bytes / gib).toFixed(1)} GiB` : `${Math.floor(bytes / 1024 ** 2)} MiB`;
}
