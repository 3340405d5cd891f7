import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { DiskTask } from './tasks';

/** The newest ways to mover sessions whose mover was replaced while an operation uses them; others need no entry. */
export class DataPaths {
  readonly #newest = new Map<string, DataPath>();

  change(path: DataPath): void {
    this.#newest.set(path.sessionId ?? '', path);
  }

  /** No operation uses the session any more. */
  forget(sessionId: string): void {
    this.#newest.delete(sessionId);
  }

  /** The task as it is to be started now. */
  applyTo(task: DiskTask): DiskTask {
    const newest = this.#newest.get(dataPathOf(task)?.sessionId ?? '');
    return newest ? withDataPath(task, newest) : task;
  }
}

export function dataPathOf(task: DiskTask): DataPath | null | undefined {
  return 'backupDisk' in task ? task.backupDisk.dataPath : task.restoreDisk.dataPath;
}

export function withDataPath(task: DiskTask, dataPath: DataPath): DiskTask {
  return 'backupDisk' in task ? { backupDisk: { ...task.backupDisk, dataPath } } : { restoreDisk: { ...task.restoreDisk, dataPath } };
}
