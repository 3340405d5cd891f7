import { CommonErrors } from '../../common/errors/common-errors';
import { bytesFromWire, durationFromWire, durationToWire } from '../../common/rpc/bytes';
import type { Compression__Output } from '../../proto/gen/tidemark/mover/v1/Compression';
import type { Repository as RepositoryMessage } from '../../proto/gen/tidemark/mover/v1/Repository';
import type { RepositorySettings__Output } from '../../proto/gen/tidemark/mover/v1/RepositorySettings';
import type { UpdateRepositoryRequest__Output } from '../../proto/gen/tidemark/mover/v1/UpdateRepositoryRequest';
import type { SettingsChange } from '../repository/live-settings';
import { defaultSettings, type Repository, type RepositorySettings } from '../repository/repository';
import { spaceState } from '../repository/space';

const codecs = { COMPRESSION_NONE: 'none', COMPRESSION_ZSTD: 'zstd', COMPRESSION_LZ4: 'lz4' } as const;
const compressions = { none: 'COMPRESSION_NONE', zstd: 'COMPRESSION_ZSTD', lz4: 'COMPRESSION_LZ4' } as const;
const levels = { enough: 'SPACE_STATE_ENOUGH', low: 'SPACE_STATE_LOW', full: 'SPACE_STATE_FULL' } as const;

/** What is fixed when a repository is made, and what is set beside it. Throws ARGUMENT_INVALID. */
export function newSettingsFromWire(settings: RepositorySettings__Output | null): { fixed: RepositorySettings; change: SettingsChange } {
  if (!settings) return { fixed: defaultSettings, change: {} };
  const { softFreeBytes, hardFreeBytes, capacityBytes, grace } = settings;
  const chosen = limitsFromWire({
    ...(softFreeBytes !== '0' && { softFreeBytes }),
    ...(hardFreeBytes !== '0' && { hardFreeBytes }),
    ...(capacityBytes !== '0' && { capacityBytes }),
    grace,
  });
  return {
    fixed: {
      blockSizeBytes: settings.blockSizeBytes === 0 ? defaultSettings.blockSizeBytes : settings.blockSizeBytes,
      codec: codecFromWire(settings.compression) ?? defaultSettings.codec,
      codecLevel: settings.compressionLevel === 0 ? defaultSettings.codecLevel : settings.compressionLevel,
    },
    change: chosen,
  };
}

/** Throws ARGUMENT_INVALID. */
export function changeFromWire(request: UpdateRepositoryRequest__Output): SettingsChange {
  const codec = codecFromWire(request.compression);
  return {
    ...(codec && { codec }),
    ...(request.compressionLevel !== 0 && { codecLevel: request.compressionLevel }),
    ...limitsFromWire(request),
  };
}

function codecFromWire(compression: Compression__Output): (typeof codecs)[keyof typeof codecs] | undefined {
  if (compression === 'COMPRESSION_UNSPECIFIED') return undefined;
  if (compression in codecs) return codecs[compression];
  throw CommonErrors.ARGUMENT_INVALID({ field: 'compression', problem: 'it is none that this mover knows' });
}

function limitsFromWire(
  limits: Pick<UpdateRepositoryRequest__Output, 'softFreeBytes' | 'hardFreeBytes' | 'capacityBytes' | 'grace'>,
): SettingsChange {
  const { softFreeBytes, hardFreeBytes, capacityBytes } = limits;
  const graceMs = durationFromWire(limits.grace);
  return {
    ...(softFreeBytes !== undefined && { softFreeBytes: bytesFromWire(softFreeBytes, 'soft_free_bytes') }),
    ...(hardFreeBytes !== undefined && { hardFreeBytes: bytesFromWire(hardFreeBytes, 'hard_free_bytes') }),
    ...(capacityBytes !== undefined && { capacityBytes: bytesFromWire(capacityBytes, 'capacity_bytes') }),
    ...(graceMs !== undefined && { graceMs }),
  };
}

/** The settings and the space of a repository; watermarks as they are in force. */
export async function settingsToWire(
  repository: Repository,
): Promise<Pick<RepositoryMessage, 'settings' | 'freeBytes' | 'freeBytesKnown' | 'spaceState'>> {
  const { codec, codecLevel, capacityBytes, graceMs } = repository.settings.all;
  const { level, freeBytes, softFreeBytes, hardFreeBytes } = await spaceState(repository);
  return {
    settings: {
      blockSizeBytes: repository.blockSizeBytes,
      compression: compressions[codec],
      compressionLevel: codecLevel,
      softFreeBytes,
      hardFreeBytes,
      capacityBytes,
      grace: durationToWire(graceMs),
    },
    freeBytes: freeBytes ?? 0,
    freeBytesKnown: freeBytes !== undefined,
    spaceState: levels[level],
  };
}
