import type { ProcessInfo__Output } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import { CommonErrors } from '../../common/errors/common-errors';

/** What the catalogue keeps of a process that registered. */
export interface StoredProcess {
  readonly bootId: string;
  readonly version: string;
  readonly protocols: readonly string[];
  readonly capabilities: readonly string[];
  readonly hostName: string;
}

/** Throws CAPABILITY_MISSING when the process does not speak the contract, ARGUMENT_INVALID when it does not introduce itself. */
export function checkProcess(info: ProcessInfo__Output | null, contract: string): StoredProcess & { instanceId: string } {
  if (!info || info.instanceId === '') throw CommonErrors.ARGUMENT_INVALID({ field: 'process.instanceId', problem: 'is missing' });
  if (!info.protocols.includes(contract)) {
    throw CommonErrors.CAPABILITY_MISSING({ needed: contract, offered: info.protocols.join(', ') || 'nothing' });
  }
  const { instanceId, bootId, version, protocols, capabilities, hostName } = info;
  return { instanceId, bootId, version, protocols, capabilities, hostName };
}

/** As the catalogue keeps it, from now on. */
export function leaseFrom(now: Date, leaseMs: number): { leaseExpiresAt: string; lastSeenAt: string } {
  return { leaseExpiresAt: new Date(now.getTime() + leaseMs).toISOString(), lastSeenAt: now.toISOString() };
}

export function leaseHolds(row: { readonly leaseExpiresAt: string }, now: Date): boolean {
  return row.leaseExpiresAt > now.toISOString();
}
