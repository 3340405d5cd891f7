/** The engine's backups of a VM, their phases and disks. Engine REST API §4. */
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { diskOf } from './disks';
import type { Disk } from './disks';
import type { EngineClient } from './engine-client';
import { EngineErrors } from './engine-errors';
import { isWithoutReason } from './engine-fault';
import type { RequestOptions } from './engine-session';
import { compact, dateOf, idOf, textOf } from './mapping';
import type { Wire } from './mapping';

export type BackupPhase = 'initializing' | 'starting' | 'ready' | 'finalizing' | 'succeeded' | 'failed' | 'unknown';

export interface EngineBackup {
  readonly id: string;
  readonly phase: BackupPhase;
  readonly description: string;
  readonly vmId: string | undefined;
  /** Live backups only. */
  readonly hostId: string | undefined;
  /** Hybrid backups only, while their snapshot lives. */
  readonly snapshotId: string | undefined;
  readonly fromCheckpointId: string | undefined;
  /** Appears when the checkpoint is real; see the reference for when there is none. */
  readonly toCheckpointId: string | undefined;
  readonly createdAt: Date | undefined;
}

export interface NewBackup {
  /** Chosen by us, so that a lost answer can be made good. */
  readonly id: string;
  readonly description: string;
  readonly diskIds: readonly string[];
  readonly fromCheckpointId?: string;
  /** Fail rather than take a crash-consistent one; honoured by live backups only. */
  readonly requireConsistency?: boolean;
  /** Live or cold even where the engine prefers hybrid. The engine reads this as `legacy`; its model's `use_active` does nothing. */
  readonly legacy?: boolean;
}

/** The first step runs in the request: checkpoint redefinition, start of the snapshot. */
const startTimeoutMs = 180_000;
const longestDescription = 1024;

export const finalPhases: readonly BackupPhase[] = ['succeeded', 'failed'];

export class Backups {
  constructor(private readonly client: EngineClient) {}

  /**
   * Starts a backup; poll until `ready` or `failed`. Throws ENGINE_CHECKPOINT_UNUSABLE (advice: full backup) when it was to build on a
   * checkpoint and the engine cannot, ENGINE_CONFLICT (locked, other backup), ENGINE_REFUSED.
   */
  async start(vmId: string, backup: NewBackup, options: RequestOptions = {}): Promise<EngineBackup> {
    const path = `/vms/${vmId}/backups`;
    const body = compact({
      id: backup.id,
      description: backup.description.slice(0, longestDescription),
      from_checkpoint_id: backup.fromCheckpointId,
      disks: { disk: backup.diskIds.map((id) => ({ id })) },
    });
    const query = {
      require_consistency: backup.requireConsistency === true ? true : undefined,
      legacy: backup.legacy === true ? true : undefined,
    };
    const find = () => this.client.find(`${path}/${backup.id}`, options);
    try {
      return backupOf(await this.client.create(path, body, { timeoutMs: startTimeoutMs, ...options, query, find }));
    } catch (error) {
      if (backup.fromCheckpointId !== undefined && isCheckpointProblem(error)) {
        const detail = String(error.meta['detail'] ?? '');
        throw EngineErrors.ENGINE_CHECKPOINT_UNUSABLE({ vmId, checkpointId: backup.fromCheckpointId, detail }, { cause: error });
      }
      throw error;
    }
  }

  /** Undefined when the engine forgot it (15 min after success, 30 min after failure). */
  async find(vmId: string, backupId: string, options: RequestOptions = {}): Promise<EngineBackup | undefined> {
    const wire = await this.client.find(`/vms/${vmId}/backups/${backupId}`, options);
    return wire && backupOf(wire);
  }

  async list(vmId: string, options: RequestOptions = {}): Promise<readonly EngineBackup[]> {
    return (await this.client.list(`/vms/${vmId}/backups`, 'backup', options)).map(backupOf);
  }

  /** Full disks with their `backupMode`: decide by that, not by what was asked. */
  async disks(vmId: string, backupId: string, options: RequestOptions = {}): Promise<readonly Disk[]> {
    return (await this.client.list(`/vms/${vmId}/backups/${backupId}/disks`, 'disk', options)).map(diskOf);
  }

  /**
   * Asks for the end; poll until a final phase (a hybrid backup stays `ready` for a moment) or undefined. Fine when it is ending or gone
   * already. Throws ENGINE_CONFLICT while transfers of it run.
   */
  async finalize(vmId: string, backupId: string, options: RequestOptions = {}): Promise<void> {
    try {
      await this.client.act(`/vms/${vmId}/backups/${backupId}/finalize`, {}, options);
    } catch (error) {
      if (hasCode(error, 'ENGINE_NOT_FOUND')) return;
      if (!hasCode(error, 'ENGINE_REFUSED', 'ENGINE_UNAVAILABLE', 'ENGINE_INTERNAL_FAILURE')) throw error;
      const found = await this.find(vmId, backupId, options);
      if (!found || found.phase === 'finalizing' || finalPhases.includes(found.phase)) return;
      if (hasCode(error, 'ENGINE_REFUSED') && /already/i.test(String(error.meta['detail']))) return;
      if (!hasCode(error, 'ENGINE_UNAVAILABLE')) throw error;
      // The answer was lost and it is not ending: a second request is refused at worst.
      await this.client.act(`/vms/${vmId}/backups/${backupId}/finalize`, {}, options);
    }
  }
}

/** True for refusals that a full backup gets around (engine REST API §4.7, "Fallback to full"). */
function isCheckpointProblem(error: unknown): error is TidemarkError {
  if (!hasCode(error, 'ENGINE_REFUSED') || error.meta['httpStatus'] !== 400) return false;
  return isWithoutReason(error) || /checkpoint|incremental|mixed/i.test(String(error.meta['detail']));
}

export function backupOf(wire: Wire): EngineBackup {
  return {
    id: textOf(wire, 'id') ?? '',
    phase: (textOf(wire, 'phase') ?? 'unknown') as BackupPhase,
    description: textOf(wire, 'description') ?? '',
    vmId: idOf(wire, 'vm'),
    hostId: idOf(wire, 'host'),
    snapshotId: idOf(wire, 'snapshot'),
    fromCheckpointId: textOf(wire, 'from_checkpoint_id'),
    toCheckpointId: textOf(wire, 'to_checkpoint_id'),
    createdAt: dateOf(wire, 'creation_date'),
  };
}
