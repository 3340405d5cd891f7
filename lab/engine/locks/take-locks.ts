import { refuse } from '../states/refusals';
import type { LockManager, LockRequest } from './lock-manager';

/** Takes the locks or throws the 409 that the present holder left for others. `subject` names the object in its text. */
export function takeLocks(locks: LockManager, request: LockRequest, subject: string): void {
  const blocked = locks.tryAcquire(request);
  if (blocked !== undefined) throw refuse(blocked, subject);
}

/** Runs `work` under locks that end with it. */
export async function underLocks<T>(locks: LockManager, request: LockRequest, subject: string, work: () => Promise<T> | T): Promise<T> {
  takeLocks(locks, request, subject);
  try {
    return await work();
  } finally {
    locks.release(request.holder);
  }
}
