import type { Requester } from '../disks/disk-service';

/** What a snapshot is asked to be, by a client or by a hybrid backup. */
export interface SnapshotRequest extends Requester {
  readonly description: string;
  readonly persistMemory: boolean;
  /** Every snapable disk of the machine when absent. */
  readonly diskIds?: readonly string[];
  /** Per disk: a wanted id of the new leaf. */
  readonly leafIds?: ReadonlyMap<string, string>;
  /** Hybrid backup: bitmap that the new leaf of these disks records from the start. */
  readonly bitmap?: { readonly name: string; readonly diskIds: ReadonlySet<string> };
  /** Id of the hybrid backup whose own locks do not stand in the way. */
  readonly onBehalfOf?: string;
}
