import { pause } from '../../common/rpc/call';
import { failureError } from '../../common/rpc/failure-message';
import { HostErrors } from '../errors/host-errors';
import type { Platforms } from '../inventory/platforms';
import type { FlowEnd } from './flow';
import { noteSeverity } from './operation-follower';
import { pluginReason } from './task-context';
import type { TaskContext } from './task-context';

const preflightEveryMs = 15_000;

/**
 * Asks whether a VM can be backed up until there is a verdict that waiting does not change; an end when it cannot. Throws VM_UNKNOWN,
 * WAITED_TOO_LONG, and what the plug-in says.
 */
export async function preflight(context: TaskContext, platforms: Platforms, retryEveryMs: number): Promise<FlowEnd | undefined> {
  const { task } = context;
  await context.enter('preparing');
  const began = context.elapsedMs();
  for (;;) {
    const verdict = await context.patiently(async () => {
      const plugin = await platforms.pluginOf(task.platformId);
      const vms = [{ platformId: task.platformId, vmId: task.vmId }];
      return (await plugin.protection.call('Preflight', { vms }, { deadlineMs: 60_000, signal: context.stop })).verdicts[0];
    }, pluginReason);
    if (!verdict) throw HostErrors.VM_UNKNOWN({ vm: task.vmName });
    if (verdict.failure) throw failureError(verdict.failure);
    const blocking = verdict.findings.filter((finding) => finding.severity === 'SEVERITY_BLOCKING');
    if (verdict.canBackUp) {
      for (const { code, severity, message, diskId } of verdict.findings) {
        context.note({ code, message, diskId, severity: noteSeverity(severity) });
      }
      return undefined;
    }
    const first = blocking.find((finding) => finding.diskId === '') ?? blocking[0] ?? verdict.findings[0];
    const code = first?.code ?? 'vm-state';
    if (!verdict.retryLater) {
      for (const finding of blocking) {
        context.note({ code: finding.code, message: finding.message, diskId: finding.diskId, severity: 'blocking' });
      }
      return {
        state: 'skipped',
        failure: HostErrors.VM_NOT_PROTECTABLE({ code, text: `${first?.message ?? ''} ${first?.advice ?? ''}`.trim() }),
      };
    }
    const waitedMs = Math.round(context.elapsedMs() - began);
    if (waitedMs > context.settings.current.waitLimitMs) throw HostErrors.WAITED_TOO_LONG({ reason: code, waitedMs });
    await context.waiting(code);
    await pause(Math.min(preflightEveryMs, retryEveryMs * 15), context.stop);
  }
}
