import { eventually } from './child';
import type { Lab } from './lab';

interface Row {
  readonly id: string;
  readonly name?: string;
  readonly phase?: string;
  readonly status?: string;
  readonly type?: string;
  readonly contentType?: string;
  readonly description?: string;
}

/**
 * What is left in the engine by its own account: transfers and backups that are not final, snapshots that are not the active one, disks that are
 * not ok, scratch disks. Empty when nothing is left.
 */
export async function leftovers(lab: Lab): Promise<string[]> {
  const [transfers, backups, snapshots, disks] = await Promise.all(
    ['transfers', 'backups', 'snapshots', 'disks'].map((name) => lab.entities<Row>(name)),
  );
  const finished = (phase = '') => /^(finished_(success|failure|cleanup)|succeeded|failed)$/i.test(phase);
  return [
    ...(transfers ?? []).filter((t) => !finished(t.phase)).map((t) => `transfer ${t.id} is ${t.phase}`),
    ...(backups ?? []).filter((b) => !finished(b.phase)).map((b) => `backup ${b.id} is ${b.phase}`),
    ...(snapshots ?? []).filter((s) => s.type !== 'active').map((s) => `snapshot ${s.id} "${s.description ?? ''}"`),
    ...(disks ?? []).filter((d) => d.contentType === 'backup_scratch').map((d) => `scratch disk ${d.name ?? d.id}`),
    ...(disks ?? []).filter((d) => d.status !== 'ok').map((d) => `disk ${d.name ?? d.id} is ${d.status}`),
  ];
}

/** Waits until nothing is left; throws with what is. On a machine of its own that takes less than a minute. */
export function engineClean(lab: Lab, timeoutMs = 240_000): Promise<true> {
  return eventually('a clean engine', timeoutMs, async () => {
    const left = await leftovers(lab);
    if (left.length > 0) throw new Error(left.join('; '));
    return true as const;
  });
}
