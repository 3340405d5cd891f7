/**
 * Verdicts before anything is created: can this VM be backed up now, what is left out, how would each disk be read. Owns the rules; reads
 * the engine, changes nothing. The same list runs for `tidemark vm preflight`, in the job editor and at the start of each task.
 */
import { hasCode } from '../../common/errors/tidemark-error';
import { diskRules } from './disk-rules';
import { planDisks } from './disk-plans';
import type { PreflightFinding, PreflightVerdict } from './finding';
import { readPicture } from './picture';
import type { AttachedDisk, PlanBase, PreflightEngine, Surroundings, VmPicture } from './picture';
import { vmRules } from './vm-rules';

/** The rules applied to a picture. Pure. */
export function judge(picture: VmPicture): PreflightVerdict {
  const findings: PreflightFinding[] = vmRules.flatMap((rule) => rule(picture) ?? []);
  const kept: AttachedDisk[] = [];
  for (const attached of picture.disks) {
    let blocked = false;
    for (const rule of diskRules) {
      const finding = rule(attached, picture);
      if (!finding) continue;
      findings.push({ ...finding, diskId: attached.disk.id });
      if (finding.severity === 'blocking') {
        blocked = true;
        break;
      }
    }
    if (!blocked) kept.push(attached);
  }
  if (kept.length === 0) findings.push(withoutDisks(picture));
  const blocking = findings.filter((finding) => finding.severity === 'blocking');
  return {
    vmId: picture.vm.id,
    vmName: picture.vm.name,
    canBackUp: kept.length > 0 && !blocking.some((finding) => finding.diskId === undefined),
    retryLater: blocking.some((finding) => finding.passes === true),
    findings,
    disks: planDisks(picture, kept),
  };
}

/**
 * Reads a VM and judges it. `base` is the point that the next backup would build on; without it the newest checkpoint of ours is assumed.
 * A VM that is gone is a finding (`vm-gone`). Throws errors of the engine, e.g. ENGINE_UNAVAILABLE.
 */
export async function preflightVm(
  engine: PreflightEngine,
  vmId: string,
  base?: PlanBase,
  options: {
    readonly surroundings?: Surroundings;
    readonly requireConsistency?: boolean;
    readonly byAttachment?: boolean;
    readonly signal?: AbortSignal;
  } = {},
): Promise<PreflightVerdict> {
  try {
    return judge(await readPicture(engine, vmId, { ...options, base }));
  } catch (error) {
    if (!hasCode(error, 'ENGINE_NOT_FOUND')) throw error;
    // Something the VM names may have gone between two reads; only its own absence is a verdict.
    if (await engine.vms.find(vmId, { signal: options.signal })) throw error;
    return {
      vmId,
      vmName: '',
      canBackUp: false,
      retryLater: false,
      findings: [
        {
          code: 'vm-gone',
          severity: 'blocking',
          message: `The engine has no VM ${vmId} (any more).`,
          advice: 'Take it out of the job; its restore points stay.',
        },
      ],
      disks: [],
    };
  }
}

function withoutDisks(picture: VmPicture): PreflightFinding {
  return picture.disks.length === 0
    ? {
        code: 'vm-no-disks',
        severity: 'blocking',
        message: 'The VM has no disk, so there is nothing to back up.',
        advice: 'Take it out of the job, or attach a disk.',
      }
    : {
        code: 'vm-no-disks',
        severity: 'blocking',
        message: 'None of its disks can be backed up; the findings of each disk say why.',
        advice: 'Mend the disks, or take the VM out of the job.',
      };
}
