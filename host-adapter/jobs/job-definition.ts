import type { Transport } from './transport';

/** What a job says, beside its name and repository. */
export interface JobDefinition {
  readonly description: string;
  readonly selector: { readonly include: readonly string[]; readonly exclude: readonly string[] };
  readonly excludedDiskIds: readonly string[];
  readonly schedule: { readonly cron: string; readonly timeZone?: string | undefined } | null;
  readonly retention: { readonly days: number; readonly minimumPoints: number };
  readonly limits: { readonly concurrentVms: number; readonly disksPerVm: number };
  readonly requireConsistency: boolean;
  /** How workers get at the disks; absent in jobs of older servers: `auto`. */
  readonly transport?: Transport | undefined;
}
