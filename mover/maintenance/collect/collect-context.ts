import type { Logger } from '../../../common/log/logger';
import type { CollectSettings } from './collect-settings';
import type { MaintenanceMemory } from './maintenance-memory';

/** What all collections of a process share. */
export interface CollectContext {
  readonly settings: CollectSettings;
  readonly memory: MaintenanceMemory;
  readonly logger: Logger;
  readonly now: () => number;
}
