export type FindingSeverity = 'info' | 'warning' | 'blocking';

/** One rule that spoke. */
export interface PreflightFinding {
  /** Lower case with hyphens, product defaults §7; stable. */
  readonly code: string;
  readonly severity: FindingSeverity;
  readonly message: string;
  readonly advice: string;
  /** Absent when it is about the VM. */
  readonly diskId?: string;
  /** Passes without anybody doing something: wait and ask again. */
  readonly passes?: boolean;
}

export type DiskReadMode = 'full' | 'incremental' | 'digest-compare';

/** How one disk would be read. */
export interface DiskPlan {
  readonly diskId: string;
  readonly name: string;
  readonly mode: DiskReadMode;
  /** Why not incremental; empty when it is. */
  readonly reason: string;
}

export interface PreflightVerdict {
  readonly vmId: string;
  readonly vmName: string;
  readonly canBackUp: boolean;
  readonly retryLater: boolean;
  readonly findings: readonly PreflightFinding[];
  /** Disks that would be read; the ids to give the engine. */
  readonly disks: readonly DiskPlan[];
}
