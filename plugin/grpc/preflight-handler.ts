import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import { failureMessage } from '../../common/rpc/failure-message';
import type { PreflightVerdict as WireVerdict } from '../../proto/gen/tidemark/plugin/v1/PreflightVerdict';
import type { PreflightVerdict } from '../preflight/finding';
import { preflightVm } from '../preflight/preflight';
import { readSurroundings } from '../preflight/picture';
import type { Surroundings } from '../preflight/picture';
import type { VmKey } from '../operations/operation';
import type { Engines } from '../tokens';
import { modeToWire, severityToWire, vmKey } from './protection-mapping';
import type { PreflightHandler } from './protection-service';

/** VMs looked at the same time. */
const parallel = 8;

/** Verdicts for a list of VMs; what a platform's VMs share is read once. An engine that does not answer is a finding of its VMs. */
export function preflightHandler(engines: Engines): PreflightHandler {
  return async (request, { signal }) => {
    const vms = request.vms.map(vmKey);
    const surroundings = new Map<string, Promise<Surroundings>>();
    const surroundingsOf = (platformId: string) => {
      const known = surroundings.get(platformId) ?? Promise.resolve().then(() => readSurroundings(engines.of(platformId), signal));
      surroundings.set(platformId, known);
      return known;
    };
    const verdicts: WireVerdict[] = [];
    const queue = vms.map((vm, index) => ({ vm, index }));
    const lane = async () => {
      for (let next = queue.shift(); next; next = queue.shift()) {
        const { vm, index } = next;
        try {
          const shared = await surroundingsOf(vm.platformId);
          verdicts[index] = toWire(vm, await preflightVm(engines.of(vm.platformId), vm.vmId, undefined, { surroundings: shared, signal }));
        } catch (error) {
          if (signal.aborted) throw error;
          verdicts[index] = unreachable(vm, error);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(parallel, vms.length) }, lane));
    return { verdicts };
  };
}

function toWire(vm: VmKey, verdict: PreflightVerdict): WireVerdict {
  return {
    platformId: vm.platformId,
    vmId: vm.vmId,
    vmName: verdict.vmName,
    canBackUp: verdict.canBackUp,
    retryLater: verdict.retryLater,
    findings: verdict.findings.map((finding) => ({
      code: finding.code,
      severity: severityToWire(finding.severity),
      message: finding.message,
      advice: finding.advice,
      diskId: finding.diskId ?? '',
    })),
    disks: verdict.disks.map((disk) => ({ diskId: disk.diskId, name: disk.name, mode: modeToWire(disk.mode), reason: disk.reason })),
  };
}

function unreachable(vm: VmKey, thrown: unknown): WireVerdict {
  const passes = hasCode(thrown, 'ENGINE_UNAVAILABLE', 'ENGINE_ANSWER_INVALID', 'ENGINE_INTERNAL_FAILURE');
  const error = toTidemarkError(thrown, 'preflight');
  const gone = hasCode(thrown, 'VM_NOT_FOUND', 'ENGINE_NOT_FOUND');
  return {
    platformId: vm.platformId,
    vmId: vm.vmId,
    vmName: '',
    canBackUp: false,
    retryLater: passes,
    findings: [
      {
        code: passes ? 'engine-unreachable' : error.code.toLowerCase().replaceAll('_', '-'),
        severity: 'SEVERITY_BLOCKING',
        message: error.message,
        advice: passes ? 'It is tried again when the engine answers.' : '',
        diskId: '',
      },
    ],
    disks: [],
    failure: passes || gone ? null : failureMessage(error),
  };
}
