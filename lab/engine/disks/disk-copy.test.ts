import { EngineBench } from '../testing/engine-bench';
import { FakeFleet } from '../testing/fake-fleet';

describe('copying a disk', () => {
  let fleet: FakeFleet;
  let bench: EngineBench;

  beforeEach(async () => {
    fleet = new FakeFleet();
    bench = await EngineBench.open(fleet, { settings: { diskCreateMs: 0 } });
  });
  afterEach(() => bench.close());

  const copy = async (diskId: string, body: object = {}): Promise<string> => {
    const answer = await bench.call('POST', `/disks/${diskId}/copy`, { storage_domain: { id: bench.domainIds[0] ?? '' }, ...body });
    return answer.refusal ?? String(answer.status);
  };
  const named = (name: string) => bench.db.disks.find((disk) => disk.name === name);

  it('makes a new disk under the given name, locked until it is whole', async () => {
    const source = await bench.addDisk('image');
    const release = fleet.hold('copyVolume');
    expect(await copy(source.id, { disk: { name: 'worker-disk' } })).toBe('200');
    expect(named('worker-disk')).toMatchObject({ status: 'locked', format: 'cow' });
    expect(named('worker-disk')?.id).not.toBe(source.id);
    expect(await copy(source.id)).toBe('DISK_IS_LOCKED');
    release();
    await bench.until(() => named('worker-disk')?.status === 'ok', 'copied');
    expect(bench.eventCodes()).toContain(2012);
    await bench.until(() => bench.core.locks.list().length === 0, 'unlocked');
    expect(await copy(source.id)).toBe('200');
  });

  it('refuses a domain that is missing or full, a locked disk, and one in use', async () => {
    const source = await bench.addDisk('image');
    expect((await bench.call('POST', `/disks/${source.id}/copy`, {})).refusal).toBe('INCOMPLETE_PARAMETERS');
    expect(await copy(source.id, { storage_domain: { name: 'nowhere' } })).toBe('STORAGE_DOMAIN_NOT_EXIST');
    fleet.freeByDomain.set(bench.domainIds[0] ?? '', 1);
    expect(await copy(source.id)).toBe('DISK_SPACE_LOW_ON_STORAGE_DOMAIN');
    fleet.freeByDomain.clear();
    bench.db.disks.update(source.id, { status: 'locked' });
    expect(await copy(source.id)).toBe('VM_TEMPLATE_IMAGE_IS_LOCKED');
    const { disks } = await bench.addVm('web', [{}], 'up');
    expect(await copy(disks[0]?.id ?? '')).toBe('DISK_PLUGGED_TO_NON_DOWN_VMS');
    expect(bench.core.locks.list()).toEqual([]);
  });

  it('leaves nothing when it fails or the engine ends', async () => {
    const source = await bench.addDisk('image');
    fleet.failNext('copyVolume', 'NO_SPACE');
    await copy(source.id, { disk: { name: 'failed' } });
    await bench.until(() => bench.eventCodes().includes(2013), 'failure');
    expect(named('failed')).toBeUndefined();
    const release = fleet.hold('copyVolume');
    await copy(source.id, { disk: { name: 'cut-off' } });
    await bench.restart();
    await bench.until(() => named('cut-off') === undefined, 'removed');
    release();
  });
});
