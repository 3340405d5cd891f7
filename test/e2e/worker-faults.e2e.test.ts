/**
 * What goes wrong with worker VMs: no room, the plug-in killed while it makes one, the VM killed or cut off in the middle of a backup. Each time
 * nothing half-made is left in the engine, and the work ends well or says why. The worker is the appliance as a process on a network of its own (needs
 * root).
 */
import { engineClean } from '../harness/engine-state';
import { eventually } from '../harness/child';
import { Site } from '../harness/site';
import type { Session } from '../harness/site';

const plan = {
  clusters: [{ name: 'East', level: '4.6', hosts: ['host-1'] }],
  storageDomains: ['data-1'],
  networks: { clusters: { East: {} } },
  vms: [{ name: 'web', cluster: 'East', nics: 1, disks: [{ name: 'web-a', sizeMib: 384, format: 'cow' }] }],
};

interface Worker {
  readonly name: string;
  readonly state: string;
  readonly vmId: string | null;
}

interface Row {
  readonly id: string;
  readonly name: string;
}

interface ReportedEvent {
  readonly code: string;
  readonly message: string;
}

const mebibyte = 1024 * 1024;

describe('worker VMs in trouble', () => {
  let site: Site;

  beforeAll(async () => {
    // The default of a minute is for networks that come back by themselves.
    process.env['TIDEMARK_WORKER_VMS__LOST_MS'] = '8000';
    site = await Site.start({ plan, workerVms: 'process' });
    const rules = ['--beside-server', 'off', '--deploy-automatically', 'off'];
    await site.installation.cli('worker', 'policy', ...rules);
    await site.lab.startVm('web');
    await site.dirty('web', 'web-a', 4, 300, 3);
    await site.installation.cli('job', 'create', 'web', '--repository', 'main', '--vm', 'web');
  }, 240_000);
  afterAll(async () => {
    delete process.env['TIDEMARK_WORKER_VMS__LOST_MS'];
    await site[Symbol.asyncDispose]();
  }, 90_000);

  const worker = async (): Promise<Worker | undefined> => {
    const { items } = await site.installation.json<{ items: Worker[] }>('worker', 'list');
    return items.find(({ vmId }) => vmId);
  };
  const names = async (collection: string): Promise<string[]> => (await site.lab.entities<Row>(collection)).map(({ name }) => name).sort();
  const codes = async (): Promise<string[]> => {
    const { items } = await site.installation.json<{ items: ReportedEvent[] }>('event', 'list');
    return items.map(({ code }) => code);
  };
  const failure = (session: Session) => session.tasks[0]?.failure;

  it('a cluster without room gives a reason, and not a half-made VM', async () => {
    const [host] = await site.lab.entities<Row & { memoryBytes: number }>('hosts');
    await site.lab.control('POST', `/hosts/${host?.id ?? ''}/memory`, { bytes: 1200 * mebibyte });
    const session = await site.session('worker', 'deploy', '--cluster', 'East', '--name', 'w1');
    expect(failure(session)).toMatchObject({ code: 'WORKER_NO_MEMORY', message: expect.stringContaining('"East"') });
    expect(await names('vms')).toEqual(['web']);
    expect(await names('disks')).toEqual(['web-a']);
    expect(await codes()).toContain('WORKER_DEPLOYMENT_FAILED');
    await site.lab.control('POST', `/hosts/${host?.id ?? ''}/memory`, { bytes: 64 * 1024 * mebibyte });
  }, 60_000);

  it.each([
    ['the image is on its way', 'POST /imagetransfers/:id/finalize'],
    ['its VM is made', 'POST /vms/:vmId/nics'],
  ])(
    'a plug-in that is killed while %s leaves nothing half-made, and makes the worker once it is back',
    async (_when, route) => {
      await site.lab.control('POST', '/faults', { match: { route }, effect: { kind: 'delay', ms: 600_000 } });
      const deploying = site.session('worker', 'deploy', '--cluster', 'East', '--name', 'w1');
      await eventually('the moment', 60_000, async () => {
        const rules = await site.lab.control<readonly { readonly fired?: number }[]>('GET', '/faults');
        return rules.some(({ fired = 0 }) => fired > 0) || undefined;
      });
      site.installation.kill('plugin');
      await site.lab.control('DELETE', '/faults');
      const session = await deploying;
      expect([session.state, failure(session)]).toEqual(['success', null]);
      await eventually('only whole things', 60_000, async () => {
        const [vms, disks] = [await names('vms'), await names('disks')];
        return (vms.join() === 'w1,web' && disks.length === 3) || undefined;
      });
      await engineClean(site.lab);
      expect((await site.session('worker', 'remove', 'w1')).state).toBe('success');
      await eventually('nothing left', 30_000, async () => (await names('disks')).join() === 'web-a' || undefined);
      expect(await names('vms')).toEqual(['web']);
    },
    240_000,
  );

  it.each([
    ['killed', (vmId: string) => site.lab.control('POST', `/vms/${vmId}/kill`, {}), 'its VM is down'],
    ['cut off', (vmId: string) => site.lab.control('POST', `/vms/${vmId}/network`, { cutOff: true }), 'it has not reported for'],
  ])(
    'a worker VM that is %s in the middle of a backup is brought back, and the backup ends well',
    async (_what, harm, why) => {
      if (!(await worker())) await site.session('worker', 'deploy', '--cluster', 'East', '--name', 'w1');
      const running = site.run('web', '--full');
      await eventually('data on its way', 60_000, async () => {
        const transfers = await site.lab.entities<{ phase: string }>('transfers');
        return transfers.some(({ phase }) => phase === 'transferring') || undefined;
      });
      await harm((await worker())?.vmId ?? '');
      const session = await running;
      expect([session.state, failure(session)]).toEqual(['success', null]);
      expect(session.tasks[0]?.notes.map(({ code }) => code)).toContain('worker-lost');
      expect(await site.pointDifferences(session.tasks[0]!)).toEqual([]);
      const { items } = await site.installation.json<{ items: ReportedEvent[] }>('event', 'list');
      expect(items.filter(({ code }) => code === 'WORKER_VM_LOST').map(({ message }) => message)).toContainEqual(
        expect.stringContaining(why),
      );
      expect(await worker()).toMatchObject({ name: 'w1', state: 'connected' });
      await engineClean(site.lab);
    },
    240_000,
  );
});
