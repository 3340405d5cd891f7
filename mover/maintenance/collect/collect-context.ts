import type { Logger } from '../../../common/log/logger';
import type { Repository } from '../../repository/repository';
import type { CollectSettings } from './collect-settings';
import type { MaintenanceMemory } from './maintenance-memory';

/** What all collections of a process share. */
export interface CollectContext {
  readonly settings: CollectSettings;
  readonly memory: MaintenanceMemory;
  readonly logger: Logger;
  readonly now: () => number;
  /** True below the soft watermark: then grace times are cut to the least. */
  readonly isSpaceLow: (repository: Repository) => Promise<boolean>;
}
