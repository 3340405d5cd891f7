/** Down and away: worker VMs are stopped and removed by us alone, so nothing here asks whether somebody minds. Engine REST API §9.4. */
import { hasCode } from '../../common/errors/tidemark-error';
import type { DiskAttachments } from '../engine/disk-attachments';
import type { Vms } from '../engine/vms';
import { endPace, transferPace } from '../protection/patience';
import type { Patience } from '../protection/patience';

export interface PowerEngine {
  readonly vms: Pick<Vms, 'find' | 'update' | 'remove' | 'stop'>;
  readonly diskAttachments: Pick<DiskAttachments, 'detach'>;
}

export interface PowerOptions {
  readonly signal?: AbortSignal | undefined;
  readonly deadlineMs: number;
}

/** Between two requests for the same thing. */
const askAgainMs = 15_000;

/** Lets the guest end by itself for `graceMs`, then cuts its power. The status that it has in the end: `down`, `gone`, or what it stays in. */
export async function shutDown(
  engine: PowerEngine & { readonly vms: Pick<Vms, 'shutdown'> },
  patience: Patience,
  vmId: string,
  options: PowerOptions & { readonly graceMs: number },
): Promise<string> {
  const { signal, graceMs, deadlineMs } = options;
  const first = await engine.vms.find(vmId, { signal });
  if (!first) return 'gone';
  if (first.status === 'down') return 'down';
  // A paused guest hears nothing.
  if (first.status === 'up' || first.status === 'powering_up') {
    await ignoringRefusal(() => engine.vms.shutdown(vmId, { signal }));
    const ended = await untilDown(engine, patience, vmId, { signal, deadlineMs: graceMs });
    if (ended === 'down' || ended === 'gone') return ended;
  }
  return await powerOff(engine, patience, vmId, { signal, deadlineMs });
}

/** As {@link shutDown}, at once. */
export async function powerOff(engine: PowerEngine, patience: Patience, vmId: string, options: PowerOptions): Promise<string> {
  const { signal } = options;
  let askedAt: number | undefined;
  let status = 'unknown';
  const ended = await patience.poll({ ...options, everyMs: transferPace }, async () => {
    const vm = await engine.vms.find(vmId, { signal });
    status = vm ? (vm.status ?? 'unknown') : 'gone';
    if (status === 'gone' || status === 'down') return status;
    const now = patience.clock.elapsed();
    if (status !== 'image_locked' && (askedAt === undefined || now - askedAt > askAgainMs)) {
      askedAt = now;
      await ignoringRefusal(() => engine.vms.stop(vmId, { signal, force: true }));
    }
    return undefined;
  });
  return ended ?? status;
}

/**
 * Stops the VM, takes its protection off and removes it with the disk that it boots from. Other disks may hang on it for a backup or a
 * restore: they are taken off first, since the engine removes what is attached. True once it is seen to be gone.
 */
export async function removeWorkerVm(engine: PowerEngine, patience: Patience, vmId: string, options: PowerOptions): Promise<boolean> {
  const { signal } = options;
  const since = patience.clock.elapsed();
  const status = await powerOff(engine, patience, vmId, options);
  if (status === 'gone') return true;
  if (status !== 'down') return false;
  let askedAt: number | undefined;
  const deadlineMs = Math.max(0, options.deadlineMs - (patience.clock.elapsed() - since));
  const gone = await patience.poll({ signal, deadlineMs, everyMs: endPace }, async () => {
    const vm = await engine.vms.find(vmId, { signal, with: ['diskAttachments'] });
    if (!vm) return true;
    const now = patience.clock.elapsed();
    if (askedAt === undefined || now - askedAt > askAgainMs) {
      askedAt = now;
      await ignoringRefusal(async () => {
        for (const { diskId, bootable } of vm.diskAttachments ?? []) {
          if (!bootable) await engine.diskAttachments.detach(vmId, diskId, { signal });
        }
        if (vm.deleteProtected) await engine.vms.update(vmId, { delete_protected: false }, { signal });
        await engine.vms.remove(vmId, { signal });
      });
    }
    return undefined;
  });
  return gone === true;
}

async function untilDown(engine: PowerEngine, patience: Patience, vmId: string, options: PowerOptions): Promise<string | undefined> {
  return await patience.poll({ ...options, everyMs: transferPace }, async () => {
    const vm = await engine.vms.find(vmId, { signal: options.signal });
    if (!vm) return 'gone';
    return vm.status === 'down' ? 'down' : undefined;
  });
}

async function ignoringRefusal(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    // Locked, or in a state that passes: asked again, and the status tells in the end.
    if (!hasCode(error, 'ENGINE_CONFLICT', 'ENGINE_REFUSED', 'ENGINE_INTERNAL_FAILURE', 'ENGINE_NOT_FOUND')) throw error;
  }
}
