import { CommonErrors } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { BlockCodec } from '../format/block';
import type { RepositoryHeader } from '../format/repository-header';
import { decodeSettings, encodeSettings, SETTINGS_NAME, type SettingsDocument } from '../format/settings-document';
import type { Store } from '../stores/store';
import type { RepositoryKeys } from './keys/repository-keys';

const maxSettingsBytes = 64 * 1024;
/** What is condemned stays at least a day, unless told otherwise: long enough for a person to notice. */
const defaultGraceMs = 24 * 60 * 60_000;
const maxGraceMs = 366 * 24 * 60 * 60_000;

/** What can be changed; what is absent stays. */
export type SettingsChange = Partial<Omit<SettingsDocument, 'changedAt'>>;

/**
 * A repository's settings as they are now: what its header says until somebody changed something, then the `settings` object. Every mover of the
 * repository may change them; the others read them again when they are told.
 */
export class LiveSettings {
  private constructor(
    private readonly store: Store,
    private readonly keys: RepositoryKeys | undefined,
    private readonly initial: SettingsDocument,
    private readonly logger: Logger,
    private current: SettingsDocument,
  ) {}

  /** Throws as `Store.readWhole`. Settings that are damaged are as if there were none: they are no reason not to restore. */
  static async open(store: Store, header: RepositoryHeader, keys: RepositoryKeys | undefined, logger: Logger): Promise<LiveSettings> {
    const initial: SettingsDocument = {
      codec: header.codec,
      codecLevel: Math.min(19, Math.max(1, header.codecLevel)),
      softFreeBytes: 0,
      hardFreeBytes: 0,
      capacityBytes: 0,
      graceMs: defaultGraceMs,
      changedAt: header.createdAt,
    };
    const settings = new LiveSettings(store, keys, initial, logger, initial);
    await settings.reload();
    return settings;
  }

  /** How new blocks are stored. */
  get codec(): BlockCodec {
    return BlockCodec[this.current.codec];
  }

  /** zstd's level. */
  get codecLevel(): number {
    return this.current.codecLevel;
  }

  /** How long what is condemned stays. */
  get graceMs(): number {
    return this.current.graceMs;
  }

  get all(): SettingsDocument {
    return this.current;
  }

  /** Takes in what another mover changed. */
  async reload(): Promise<void> {
    this.current = this.decode(await this.readBytes());
  }

  /** Changes what is stored now, not what was stored when it was read. Throws ARGUMENT_INVALID, REPOSITORY_FORMAT_UNKNOWN, and as `Store.swap`. */
  async update(change: SettingsChange, now: Date): Promise<void> {
    for (;;) {
      const bytes = await this.readBytes();
      const next: SettingsDocument = { ...this.decode(bytes, true), ...change, changedAt: now.toISOString() };
      assertValidSettings(next);
      const content = encodeSettings(next, this.keys?.document(SETTINGS_NAME));
      if (!(await (bytes ? this.store.swap(SETTINGS_NAME, bytes, content) : this.store.putNew(SETTINGS_NAME, content)))) continue;
      this.current = next;
      return;
    }
  }

  private decode(bytes: Buffer | undefined, isToBeChanged = false): SettingsDocument {
    if (!bytes) return this.initial;
    try {
      return decodeSettings(bytes, this.keys?.document(SETTINGS_NAME));
    } catch (error) {
      // A newer version: no reason not to restore either, but not to be overwritten.
      const isUnknown = hasCode(error, 'REPOSITORY_FORMAT_UNKNOWN') && !isToBeChanged;
      if (!isUnknown && !hasCode(error, 'OBJECT_DAMAGED')) throw error;
      this.logger.warn('the settings of a repository cannot be read; those of its creation are used until they are set again', { error });
      return this.initial;
    }
  }

  private async readBytes(): Promise<Buffer | undefined> {
    try {
      return await this.store.readWhole(SETTINGS_NAME, maxSettingsBytes);
    } catch (error) {
      if (hasCode(error, 'OBJECT_NOT_FOUND')) return undefined;
      throw error;
    }
  }
}

/** Throws ARGUMENT_INVALID. */
export function assertValidSettings(settings: SettingsChange): void {
  const invalid = (field: string, problem: string) => CommonErrors.ARGUMENT_INVALID({ field, problem });
  const { codecLevel, softFreeBytes = 0, hardFreeBytes = 0, capacityBytes = 0, graceMs = 0 } = settings;
  if (codecLevel !== undefined && !(codecLevel >= 1 && codecLevel <= 19)) throw invalid('compression_level', 'it is not from 1 to 19');
  for (const [field, bytes] of Object.entries({
    soft_free_bytes: softFreeBytes,
    hard_free_bytes: hardFreeBytes,
    capacity_bytes: capacityBytes,
  }))
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw invalid(field, 'it is no number of bytes');
  if (softFreeBytes !== 0 && hardFreeBytes > softFreeBytes)
    throw invalid('hard_free_bytes', 'it is above soft_free_bytes: nobody would be warned before backups are refused');
  if (capacityBytes !== 0 && hardFreeBytes >= capacityBytes) throw invalid('hard_free_bytes', 'it leaves nothing of capacity_bytes');
  if (!Number.isSafeInteger(graceMs) || graceMs < 0 || graceMs > maxGraceMs) throw invalid('grace', 'it is not from 0 to 366 days');
}
