import { setTimeout as delay } from 'node:timers/promises';
import { HostError } from './driver';
import type { QmpClient } from './qmp';

/** Block jobs of a qemu. All are made with auto-dismiss off, so that a job's end can be seen also by one who looks later. */
interface Job {
  readonly id: string;
  readonly status: string;
  /** Also of a cancelled job. */
  readonly error?: string;
}

async function findJob(monitor: QmpClient, id: string): Promise<Job | undefined> {
  return (await monitor.execute<Job[]>('query-jobs')).find((job) => job.id === id);
}

/** Waits for a status; a job that fails, or ends too early, is dismissed and told. */
export async function waitForJob(
  monitor: QmpClient,
  id: string,
  status: 'ready' | 'pending' | 'concluded',
  timeoutMs: number,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const job = await findJob(monitor, id);
    if (job === undefined) throw new HostError('QEMU_REFUSED', `Job ${id} is gone.`);
    if (job.status === 'concluded' && (job.error !== undefined || status !== 'concluded')) {
      await monitor.execute('job-dismiss', { id });
      const reason = job.error ?? 'ended early';
      throw new HostError(/No space/.test(reason) ? 'NO_SPACE' : 'QEMU_REFUSED', `Job ${id} failed: ${reason}`);
    }
    if (job.status === status) return;
    if (Date.now() > deadline) throw new HostError('HOST_DOWN', `Job ${id} is still ${job.status} after ${timeoutMs} ms.`);
    await delay(10);
  }
}

/** Ends a job in whatever state; a job that is not there is fine. */
export async function cancelJob(monitor: QmpClient, id: string): Promise<void> {
  const deadline = Date.now() + 120_000;
  for (let asked = false; ;) {
    const job = await findJob(monitor, id);
    if (job === undefined) return;
    if (job.status === 'concluded') {
      await monitor.execute('job-dismiss', { id });
      return;
    }
    if (Date.now() > deadline) throw new HostError('HOST_DOWN', `Job ${id} cannot be cancelled.`);
    if (!asked) await monitor.execute('block-job-cancel', { device: id, force: true });
    asked = true;
    await delay(10);
  }
}
