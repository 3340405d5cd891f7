import type { VmKey } from '../operations/operation';
import type { PreflightVerdict } from '../preflight/finding';
import type { PlanBase } from '../preflight/picture';

/** The rules of `plugin/preflight`, asked at the start of each run. */
export interface Preflight {
  check(
    vm: VmKey,
    options: {
      readonly base?: PlanBase | undefined;
      readonly requireConsistency: boolean;
      readonly byAttachment: boolean;
      readonly signal?: AbortSignal | undefined;
    },
  ): Promise<PreflightVerdict>;
}
