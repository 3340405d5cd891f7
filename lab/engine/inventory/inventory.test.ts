import { EngineOverTls, type Answer } from '../testing/engine-over-tls';

describe('inventory, events and jobs', () => {
  let engine: EngineOverTls;

  beforeEach(async () => {
    engine = await EngineOverTls.open();
  });
  afterEach(async () => {
    const logged = [...engine.logged];
    await engine.close();
    expect(logged).toEqual([]);
  });

  const refusal = (answer: Answer): string => `${String(answer.status)} ${String(answer.headers['x-lab-fault'])}`;
  const one = async (path: string, key: string): Promise<Record<string, unknown>> => {
    const entity = ((await engine.api('GET', path)).json[key] as Record<string, unknown>[])[0];
    if (!entity) {
      throw new Error(`nothing at ${path}`);
    }
    return entity;
  };

  it('shows the state of storage domains below their data center only', async () => {
    const dataCenter = await one('/datacenters', 'data_center');
    expect(dataCenter).toMatchObject({ name: 'Default', version: { major: '4', minor: '5' }, status: 'up', local: 'false' });
    const domain = await one('/storagedomains', 'storage_domain');
    expect(domain).not.toHaveProperty('status');
    expect(domain).toMatchObject({ type: 'data', storage: { type: 'nfs' }, data_centers: { data_center: [{ id: dataCenter['id'] }] } });
    const below = `/datacenters/${String(dataCenter['id'])}/storagedomains`;
    expect((await engine.api('GET', `${below}/${String(domain['id'])}`)).json['status']).toBe('active');
    expect(typeof domain['available']).toBe('string');
    expect((await engine.api('POST', `${below}/${String(domain['id'])}/deactivate`, {})).status).toBe(200);
    for (let tries = 0; (await engine.api('GET', `${below}/${String(domain['id'])}`)).json['status'] !== 'maintenance'; tries += 1) {
      expect(tries).toBeLessThan(200);
    }
    expect((await engine.api('GET', `/storagedomains/${String(domain['id'])}`)).json).not.toHaveProperty('available');
    expect((await engine.api('POST', `${below}/${String(domain['id'])}/activate`, {})).json).toMatchObject({ status: 'complete' });
  });

  it.each([
    ['/clusters', 'cluster', 'Default'],
    ['/hosts', 'host', 'host-1'],
    ['/networks', 'network', 'ovirtmgmt'],
    ['/vnicprofiles', 'vnic_profile', 'ovirtmgmt'],
    ['/macpools', 'mac_pool', 'Default'],
    ['/templates', 'template', 'Blank'],
    ['/diskprofiles', 'disk_profile', 'data-1'],
    ['/cpuprofiles', 'cpu_profile', 'Default'],
    ['/roles', 'role', 'SuperUser'],
    ['/users', 'user', 'admin'],
    ['/tags', 'tag', 'root'],
  ])('lists and reads %s', async (path, key, name) => {
    const entity = await one(path, key);
    expect(entity['name']).toBe(name);
    const alone = await engine.api('GET', `${path}/${String(entity['id'])}`);
    expect(alone.json).toMatchObject({ id: entity['id'], name, href: `/ovirt-engine/api${path}/${String(entity['id'])}` });
  });

  it('answers every sub-collection that a VM links to, except those of things the lab does not know', async () => {
    const vm = await engine.api('POST', '/vms', { name: 'linked', cluster: { name: 'Default' }, template: { name: 'Blank' } });
    const unknown = [];
    for (const { href, rel } of vm.json['link'] as { href: string; rel: string }[]) {
      const { status } = await engine.api('GET', href.slice('/ovirt-engine/api'.length));
      if (status !== 200) {
        unknown.push(`${rel} ${String(status)}`);
      }
    }
    expect(unknown).toEqual(['katelloerrata 404', 'mediateddevices 404', 'numanodes 404']);
    expect((await engine.api('GET', '/affinitylabels')).text).toBe('{}');
    expect((await engine.api('GET', '/vms/00000000-0000-4000-8000-000000000000/watchdogs')).status).toBe(404);
    expect((await engine.api('GET', '/tags/00000000-0000-0000-0000-000000000000/watchdogs')).status).toBe(404);
  });

  it('never shows passwords', async () => {
    expect((await engine.api('GET', '/users?follow=permissions')).text).not.toContain('lab password');
  });

  it('keeps a host out of maintenance while it is used, and marks a killed one', async () => {
    const host = await one('/hosts', 'host');
    expect(host).toMatchObject({ status: 'up', spm: { status: 'spm' }, cluster: { id: expect.anything() as unknown } });
    await engine.steer('POST', '/hosts/host-1/kill');
    expect((await one('/hosts', 'host'))['status']).toBe('non_responsive');
    await engine.steer('POST', '/hosts/host-1/start');
    expect((await one('/hosts', 'host'))['status']).toBe('up');
    expect((await engine.api('POST', `/hosts/${String(host['id'])}/deactivate`, {})).status).toBe(200);
    expect((await one('/hosts', 'host'))['status']).toBe('maintenance');
    expect((await engine.api('POST', `/hosts/${String(host['id'])}/activate`, {})).status).toBe(200);
  });

  it('keeps affinity groups with VMs of their cluster', async () => {
    const cluster = await one('/clusters', 'cluster');
    const base = `/clusters/${String(cluster['id'])}/affinitygroups`;
    const group = await engine.api('POST', base, { name: 'spread', vms_rule: { enabled: true, positive: false, enforcing: false } });
    expect(group.json).toMatchObject({ priority: 1, vms_rule: { enabled: 'true', positive: 'false' } });
    const vm = await engine.api('POST', '/vms', { name: 'a', cluster: { id: cluster['id'] }, template: { name: 'Blank' } });
    const other = await engine.api('POST', '/vms', { name: 'b', cluster: { name: 'Level45' }, template: { name: 'Blank' } });
    const members = `${base}/${String(group.json['id'])}/vms`;
    expect((await engine.api('POST', members, { id: vm.json['id'] })).status).toBe(201);
    expect(refusal(await engine.api('POST', members, { id: other.json['id'] }))).toBe('400 ENTITY_NOT_IN_CLUSTER');
    await engine.api('DELETE', `/vms/${String(vm.json['id'])}`);
    expect((await engine.api('GET', members)).text).toBe('{}');
  });

  it('shows one option and hides the others', async () => {
    expect((await engine.api('GET', '/options/TransferImageClientInactivityTimeoutInSeconds')).status).toBe(200);
    expect((await engine.api('GET', '/options/UseHybridBackup')).status).toBe(404);
  });

  describe('events', () => {
    const post = (body: object): Promise<Answer> => engine.api('POST', '/events', body);
    const valid = { origin: 'product', severity: 'warning', custom_id: 7, description: 'something' };

    it('take those of clients, once per id and not as oVirt', async () => {
      const answer = await post(valid);
      expect([answer.status, answer.json['code']]).toEqual([201, '9802']);
      expect(refusal(await post(valid))).toBe('400 EXTERNAL_EVENT_DUPLICATE_CUSTOM_ID');
      expect(refusal(await post({ ...valid, origin: 'OVIRT', custom_id: 8 }))).toBe('400 EXTERNAL_EVENT_ILLEGAL_ORIGIN');
      expect((await post({ origin: 'x' })).json['detail']).toBe('[Event [severity, custom_id, description] required for add]');
    });

    it('come newest first, after an index, by correlation id', async () => {
      const first = Number((await post(valid)).json['index']);
      for (const custom_id of [8, 9, 10]) {
        await engine.api('POST', '/events', { ...valid, custom_id }, { 'Correlation-Id': `run-${String(custom_id)}` });
      }
      const indexes = async (query: string): Promise<number[]> =>
        (((await engine.api('GET', `/events?${query}`)).json['event'] ?? []) as { index: string }[]).map(
          (event) => Number(event.index) - first,
        );
      expect(await indexes(`from=${String(first)}`)).toEqual([3, 2, 1]);
      expect(await indexes(`from=${String(first)}&max=2`)).toEqual([3, 2]);
      expect(await indexes(`search=correlation_id%3Drun-9`)).toEqual([2]);
      expect(await indexes(`from=${String(first + 3)}`)).toEqual([]);
      expect((await indexes('from=0')).length).toBeGreaterThan(3);
    });

    it('keep the name of what is gone, without its id', async () => {
      const vm = await engine.api('POST', '/vms', { name: 'gone', cluster: { name: 'Default' }, template: { name: 'Blank' } });
      const event = await post({ ...valid, vm: { id: vm.json['id'] } });
      expect(event.json['vm']).toMatchObject({ id: vm.json['id'], name: 'gone' });
      await engine.api('DELETE', `/vms/${String(vm.json['id'])}`);
      expect((await engine.api('GET', `/events/${String(event.json['id'])}`)).json['vm']).toEqual({ name: 'gone' });
    });
  });

  describe('jobs', () => {
    it('are found by correlation id, and vanish after a while', async () => {
      const job = engine.core.jobs.start('work', { correlationId: 'mine', userId: engine.core.db.users.list()[0]?.id ?? '' });
      const listed = await engine.api('GET', '/jobs?search=correlation_id%3Dmine');
      expect(listed.json['job']).toMatchObject([{ id: job.id, status: 'started', external: 'false' }]);
      expect(listed.text).not.toContain('"correlation_id"');
      engine.core.jobs.end(job.id, true);
      expect((await engine.api('GET', `/jobs/${job.id}`)).json['status']).toBe('finished');
      engine.core.db.jobs.update(job.id, { endTime: Date.now() - 3_600_000 });
      expect((await engine.api('GET', `/jobs/${job.id}`)).status).toBe(404);
    });

    it('of clients can be ended by them, those of the engine cannot', async () => {
      const made = await engine.api('POST', '/jobs', { description: 'theirs', auto_cleared: true });
      const path = `/jobs/${String(made.json['id'])}`;
      expect((await engine.api('POST', `${path}/steps`, { description: 'step' })).status).toBe(201);
      expect((await engine.api('GET', `${path}/steps`)).json['step']).toHaveLength(1);
      expect((await engine.api('POST', `${path}/end`, { succeeded: false })).status).toBe(200);
      expect((await engine.api('GET', path)).json['status']).toBe('failed');
      const own = engine.core.jobs.start('ours', { correlationId: '', userId: '' });
      expect(refusal(await engine.api('POST', `/jobs/${own.id}/end`, {}))).toBe('400 JOB_NOT_EXTERNAL');
    });
  });

  it('can pretend to be large', async () => {
    await engine.steer('POST', '/pretend', { vms: 3_000, clusters: 30, hosts: 90 });
    const all = await engine.api('GET', '/vms');
    expect(all.json['vm']).toHaveLength(3_000);
    const some = await engine.api(
      'GET',
      `/vms?search=${encodeURIComponent('cluster=pretended-cluster-00007 and status=up sortby name page 2')}&max=10&follow=diskattachments.disk`,
    );
    const vms = some.json['vm'] as { name: string; disk_attachments: { disk_attachment: { disk: { provisioned_size: string } }[] } }[];
    expect(vms).toHaveLength(10);
    expect(Number(vms[0]?.disk_attachments.disk_attachment[0]?.disk.provisioned_size)).toBeGreaterThan(0);
    expect((await engine.api('GET', '/hosts?search=status%3Dup')).json['host']).toHaveLength(92);
    // A second time changes nothing, and a restart keeps it.
    await engine.steer('POST', '/pretend', { vms: 3_000, clusters: 30, hosts: 90 });
    await engine.server.restart(0);
    expect((await engine.api('GET', '/vms')).json['vm']).toHaveLength(3_000);
  });
});
