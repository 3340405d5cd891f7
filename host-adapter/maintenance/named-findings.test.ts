import type { StoredPoint } from '../catalogue/point-store';
import { hurtText, namedFindings } from './named-findings';

const finding = (pointId: string, diskId = '') => ({
  ...{ code: 'BLOCK_CORRUPT', pointId, diskId, offsetBytes: null, objectName: 'packs/x', message: 'm' },
});
const point = (id: string, vm: string) =>
  ({
    ...{ id, vmId: `id-of-${vm}`, vmName: vm, pointInTime: '2026-01-01T00:00:00.000Z' },
    disks: ['a', 'b'].map((disk) => ({ diskId: `${vm}-${disk}`, name: `${vm} ${disk}` })),
  }) as unknown as StoredPoint;

describe('findings of a verification', () => {
  it('name VM, disk and time of each point that the catalogue knows, and ask for each once', async () => {
    const asked: string[] = [];
    const find = (id: string) => Promise.resolve(asked.push(id) && id === 'p1' ? point('p1', 'web') : undefined);
    const found = await namedFindings([finding('p1', 'web-a'), finding('p1', 'gone'), finding('p2', 'd'), finding('')], { find });
    expect(asked).toEqual(['p1', 'p2']);
    expect(found.map(({ vmName, diskName, pointInTime }) => [vmName, diskName, pointInTime])).toEqual([
      ['web', 'web a', '2026-01-01T00:00:00.000Z'],
      ['web', '', '2026-01-01T00:00:00.000Z'],
      ['', '', ''],
      ['', '', ''],
    ]);
  });

  it('are told in a sentence, VM by VM', async () => {
    const points = new Map(
      ['w1 web', 'w2 web', 'd1 db', 'e1 e', 'f1 f', 'g1 g', 'h1 h'].map((line) => line.split(' ') as [string, string]),
    );
    const find = (id: string) => Promise.resolve(points.has(id) ? point(id, points.get(id) as string) : undefined);
    const text = async (...findings: ReturnType<typeof finding>[]) => hurtText(await namedFindings(findings, { find }));
    expect(await text(finding(''))).toBe('');
    expect(await text(finding('w1', 'web-a'), finding('w2', 'web-b'), finding('w2', 'web-a'), finding('d1'))).toBe(
      'VM web (disks web a, web b; 2 points), VM db (1 point)',
    );
    expect(await text(finding('unknown', 'disk-7'))).toBe('a VM that is not known here (disk disk-7; 1 point)');
    expect(await text(...[...points.keys()].map((id) => finding(id)))).toMatch(/VM g \(1 point\), 1 more VMs$/);
  });
});
