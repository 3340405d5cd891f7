import { TidemarkError } from '../../common/errors/tidemark-error';
import type { ErrorMeta, StatusName } from '../../common/errors/tidemark-error';
import type { Point } from '../../proto/gen/tidemark/mover/v1/Point';
import type { RepositoryKeySlot } from '../../proto/gen/tidemark/mover/v1/RepositoryKeySlot';
import type { RepositorySettings } from '../../proto/gen/tidemark/mover/v1/RepositorySettings';

export interface FakeSession {
  readonly kind: string;
  readonly pointIds: readonly string[];
  state: 'OPEN' | 'COMMITTED' | 'ABORTED';
  /** Instance id of the mover that has it. */
  owner: string;
  point?: Point;
}

/** What lies in a store: the same to all movers that serve it. */
export class FakeRepository {
  readonly sessions = new Map<string, FakeSession>();
  readonly points: { point: Point; configuration: string }[] = [];
  slots: RepositoryKeySlot[] = [];
  location = '';
  settings: RepositorySettings = { blockSizeBytes: 1_048_576, compression: 'COMPRESSION_ZSTD', compressionLevel: 1 };
  /** Secret of the key that it was made with. */
  givenKey: string | undefined;
  /** Secrets that open it. */
  readonly secrets = new Set<string>();
  /** Secrets of access keys that the store takes; empty: every one. */
  readonly accessSecrets = new Set<string>();

  constructor(readonly id = 'repository-1') {}
}

/** As a mover answers; its own table of errors is not ours to import. */
export function moverError(code: string, status: StatusName, meta: ErrorMeta = {}): TidemarkError {
  return new TidemarkError({ code, kind: 'failure', retry: 'never', status }, `It failed with ${code}.`, { meta });
}
