/** Findings of a verification with the names of what they hurt, as far as the catalogue knows it. */
import type { PointStore, StoredPoint } from '../catalogue/point-store';
import type { TaskFinding } from '../jobs/task-record';

const vmsInText = 5;

type Found = Omit<TaskFinding, 'vmId' | 'vmName' | 'diskName' | 'pointInTime'>;

/** Each point is looked up once. Empty names: the catalogue does not know the point, or the finding is of no point in particular. */
export async function namedFindings(findings: readonly Found[], points: Pick<PointStore, 'find'>): Promise<TaskFinding[]> {
  const known = new Map<string, StoredPoint | undefined>();
  for (const { pointId } of findings) if (pointId !== '' && !known.has(pointId)) known.set(pointId, await points.find(pointId));
  return findings.map((finding) => {
    const { vmId = '', vmName = '', pointInTime = '', disks = [] } = known.get(finding.pointId) ?? {};
    return { ...finding, vmId, vmName, pointInTime, diskName: disks.find(({ diskId }) => diskId === finding.diskId)?.name ?? '' };
  });
}

/** Whom findings hurt, e.g. `VM web (disks web-a, web-b; 3 points), VM db (1 point)`; empty when no point is. */
export function hurtText(findings: readonly TaskFinding[]): string {
  const byVm = new Map<string, { readonly name: string; readonly disks: Set<string>; readonly points: Set<string> }>();
  for (const { pointId, vmId = '', vmName = '', diskId, diskName = '' } of findings) {
    if (pointId === '') continue;
    const hurt = byVm.get(vmId) ?? { name: vmName || vmId, disks: new Set(), points: new Set() };
    byVm.set(vmId, hurt);
    hurt.points.add(pointId);
    if (diskId !== '') hurt.disks.add(diskName || diskId);
  }
  const texts = [...byVm.values()].slice(0, vmsInText).map(({ name, disks, points }) => {
    const [disk = '', ...more] = disks;
    const ofDisks = disk === '' ? '' : `${more.length > 0 ? 'disks' : 'disk'} ${[...disks].join(', ')}; `;
    return `${name === '' ? 'a VM that is not known here' : `VM ${name}`} (${ofDisks}${points.size} ${points.size === 1 ? 'point' : 'points'})`;
  });
  if (byVm.size > vmsInText) texts.push(`${byVm.size - vmsInText} more VMs`);
  return texts.join(', ');
}
