/** Questions about backups that other resources ask: pure reads of the database. */
import type { Database } from '../model/database';
import type { Backup } from '../model/entities';
import { isFinished } from './phases';

export function unfinishedBackup(db: Database, vmId: string): Backup | undefined {
  return db.backups.find((backup) => backup.vmId === vmId && !isFinished(backup.phase));
}

/**
 * Whether a backup forbids to stop, migrate or suspend the machine. "Hybrid only" is computed over all rows of the machine, finished
 * ones in their retention included, as the engine does: an older legacy backup makes a running hybrid one block too.
 */
export function backupBlocksPower(db: Database, vmId: string): boolean {
  if (unfinishedBackup(db, vmId) === undefined) return false;
  return db.backups.list((backup) => backup.vmId === vmId).some((backup) => backup.mode !== 'hybrid');
}
