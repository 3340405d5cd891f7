import { durationFromWire, durationToWire } from '../../common/rpc/bytes';
import type { Repository__Output } from '../../proto/gen/tidemark/mover/v1/Repository';
import { HostErrors } from '../errors/host-errors';
import { compressionFromWire, compressionToWire, type Compression } from './compression';
import type { Repositories, RepositoryView } from './repositories';

/** What can be changed of a repository at any time; what is absent stays. 0 bytes mean the default. */
export interface RepositorySettingsChange {
  readonly compression?: Compression | undefined;
  /** zstd's, 1 to 19. */
  readonly compressionLevel?: number | undefined;
  readonly softFreeBytes?: number | undefined;
  readonly hardFreeBytes?: number | undefined;
  readonly capacityBytes?: number | undefined;
  readonly graceMs?: number | undefined;
}

/** The same as a mover knows it, with its space. */
export interface RepositorySettingsView {
  readonly compression: Compression;
  readonly compressionLevel: number;
  readonly softFreeBytes: number;
  readonly hardFreeBytes: number;
  readonly capacityBytes: number;
  readonly graceMs: number;
  readonly freeBytesKnown: boolean;
  readonly space: 'enough' | 'low' | 'full';
}

const defaultGraceMs = 24 * 60 * 60_000;

/** Of what was known last, by a mover that may be older. */
export function settingsOf(known: Repository__Output | undefined): RepositorySettingsView {
  const settings = known?.settings;
  const compression = compressionFromWire(settings?.compression);
  return {
    compression: compression ?? 'zstd',
    compressionLevel: settings?.compressionLevel ?? 1,
    softFreeBytes: Number(settings?.softFreeBytes ?? 0),
    hardFreeBytes: Number(settings?.hardFreeBytes ?? 0),
    capacityBytes: Number(settings?.capacityBytes ?? 0),
    graceMs: durationFromWire(settings?.grace) ?? defaultGraceMs,
    freeBytesKnown: known?.freeBytesKnown ?? true,
    space: known?.spaceState === 'SPACE_STATE_FULL' ? 'full' : known?.spaceState === 'SPACE_STATE_LOW' ? 'low' : 'enough',
  };
}

/** True when nothing is to be changed. */
export function isNoChange(change: RepositorySettingsChange): boolean {
  const { compression, compressionLevel, graceMs, softFreeBytes, hardFreeBytes, capacityBytes } = change;
  return [compression, compressionLevel, graceMs, softFreeBytes, hardFreeBytes, capacityBytes].every((value) => value === undefined);
}

/** Changes settings through any mover that serves the repository; the others follow by themselves. Throws ARGUMENT_INVALID, REPOSITORY_UNKNOWN, and as `Repositories.mover`. */
export async function changeSettings(
  repositories: Repositories,
  reference: string,
  change: RepositorySettingsChange,
): Promise<RepositoryView> {
  const row = await repositories.row(reference);
  const mover = await repositories.mover(row.id);
  const { compression, compressionLevel, graceMs, softFreeBytes, hardFreeBytes, capacityBytes } = change;
  const request = {
    repositoryId: row.id,
    compression: compressionToWire(compression),
    compressionLevel: compressionLevel ?? 0,
    ...(softFreeBytes !== undefined && { softFreeBytes }),
    ...(hardFreeBytes !== undefined && { hardFreeBytes }),
    ...(capacityBytes !== undefined && { capacityBytes }),
    ...(graceMs !== undefined && { grace: durationToWire(graceMs) }),
  };
  const { repository: known } = await mover.repositories.call('UpdateRepository', request, { deadlineMs: 15_000, attempts: 3 });
  if (!known) throw HostErrors.REPOSITORY_UNAVAILABLE({ repository: row.name, reason: 'repository-no-answer' });
  return { row, known, unavailable: undefined };
}
