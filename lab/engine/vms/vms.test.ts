import { snapshotOvf } from './ovf-writer';
import { EngineOverTls, type Answer } from '../testing/engine-over-tls';

const UNKNOWN = '00000000-0000-4000-8000-000000000000';

describe('VMs as configuration', () => {
  let engine: EngineOverTls;

  beforeAll(async () => {
    engine = await EngineOverTls.open();
  });
  afterAll(async () => {
    const logged = [...engine.logged];
    await engine.close();
    expect(logged).toEqual([]);
  });

  let names = 0;
  const fresh = (): string => `vm-${String((names += 1))}`;
  const create = (extra: object = {}): Promise<Answer> =>
    engine.api('POST', '/vms', { name: fresh(), cluster: { name: 'Default' }, template: { name: 'Blank' }, ...extra });
  const made = async (extra: object = {}): Promise<string> => {
    const answer = await create(extra);
    expect([answer.status, answer.text]).toEqual([201, expect.anything()]);
    return String(answer.json['id']);
  };
  const refusal = (answer: Answer): string => `${String(answer.status)} ${String(answer.headers['x-lab-fault'])}`;
  const profileId = (): string => engine.core.db.vnicProfiles.list()[0]?.id ?? '';
  const readOvf = async (id: string): Promise<string | undefined> => {
    const { json } = await engine.api('GET', `/vms/${id}?all_content=true`);
    return (json as { initialization?: { configuration?: { data?: string } } }).initialization?.configuration?.data;
  };
  const addDisk = (name: string): string => {
    const id = crypto.randomUUID();
    const domain = engine.core.db.storageDomains.list()[0]?.id ?? '';
    const volumeId = crypto.randomUUID();
    const common = { format: 'cow' as const, sparse: true, status: 'ok' as const, actualSizeBytes: 0, createdAt: 0 };
    engine.core.db.volumes.put({ ...common, id: volumeId, diskId: id, domainId: domain, virtualSizeBytes: 1024 ** 3 });
    engine.core.db.disks.put({
      ...common,
      id,
      name,
      description: '',
      storageType: 'image',
      contentType: 'data',
      provisionedSizeBytes: 1024 ** 3,
      backup: 'incremental',
      shareable: false,
      wipeAfterDelete: false,
      propagateErrors: false,
      storageDomainId: domain,
      activeVolumeId: volumeId,
      totalSizeBytes: 0,
      pretended: false,
    });
    return id;
  };
  const attach = (vmId: string, diskId: string): Promise<Answer> =>
    engine.api('POST', `/vms/${vmId}/diskattachments`, { disk: { id: diskId }, interface: 'virtio_scsi', bootable: true, active: true });

  it.each([
    ['a taken name', { name: 'taken' }, '409 NAME_ALREADY_USED'],
    ['a long name', { name: 'x'.repeat(65) }, '400 VM_NAME_TOO_LONG'],
    ['odd characters', { name: 'a b' }, '400 VM_NAME_INVALID'],
    ['an unknown cluster', { cluster: { id: UNKNOWN } }, '400 VM_CLUSTER_IS_NOT_VALID'],
    ['an unknown template', { template: { name: 'Other' } }, '400 TEMPLATE_DOES_NOT_EXIST'],
    ['more guaranteed than memory', { memory: 1024, memory_policy: { guaranteed: 2048 } }, '400 MIN_MEMORY_CANNOT_EXCEED_MEMORY_SIZE'],
    ['less maximum than memory', { memory: 2048, memory_policy: { max: 1024 } }, '400 MAX_MEMORY_CANNOT_BE_SMALLER_THAN_MEMORY_SIZE'],
    ['a lease nowhere', { lease: { storage_domain: { id: UNKNOWN } } }, '400 CANNOT_ADD_LEASE'],
    ['a TPM without UEFI', { tpm_enabled: true, bios: { type: 'q35_sea_bios' } }, '400 TPM_DEVICE_REQUIRES_UEFI'],
  ])('refuses %s', async (_, extra, expected) => {
    if (!engine.core.db.vms.find((vm) => vm.name === 'taken')) {
      await made({ name: 'taken' });
    }
    expect(refusal(await create(extra))).toBe(expected);
  });

  it('gives a new VM an active snapshot, a console and its OVF', async () => {
    const answer = await create({ os: { type: 'rhel_9x64' } });
    const id = String(answer.json['id']);
    expect(answer.json).toMatchObject({ status: 'down', os: { type: 'rhel_9x64', boot: { devices: { device: ['hd'] } } } });
    expect(JSON.stringify(answer.json['initialization'])).toContain('ovf:Envelope');
    expect((await engine.api('GET', `/vms/${id}/snapshots`)).json['snapshot']).toMatchObject([{ snapshot_type: 'active' }]);
    expect((await engine.api('GET', `/vms/${id}/graphicsconsoles`)).json['graphics_console']).toHaveLength(1);
    expect((await engine.api('GET', `/vms/${id}`)).json).not.toHaveProperty('initialization');
  });

  it('applies changes to a running VM at its next start, but names and flags at once', async () => {
    const id = await made();
    engine.core.db.vms.update(id, { status: 'up' });
    await engine.api('PUT', `/vms/${id}`, {
      memory: 2 * 1024 ** 3,
      memory_policy: { max: 8 * 1024 ** 3 },
      description: 'now',
      cpu: { topology: { sockets: 4 } },
    });
    const now = (await engine.api('GET', `/vms/${id}`)).json;
    expect(now).toMatchObject({
      memory: '1073741824',
      description: 'now',
      next_run_configuration_exists: 'true',
      cpu: { topology: { sockets: '1' } },
    });
    expect((await engine.api('GET', `/vms/${id}?next_run=true`)).json).toMatchObject({ cpu: { topology: { sockets: '4' } } });
    engine.core.db.vms.update(id, { status: 'down' });
  });

  describe('nics', () => {
    it('draw MACs from the pool and refuse those in use', async () => {
      const id = await made();
      const first = await engine.api('POST', `/vms/${id}/nics`, { name: 'nic1', interface: 'virtio', vnic_profile: { id: profileId() } });
      const mac = (first.json['mac'] as { address: string }).address;
      expect([first.status, mac]).toEqual([201, expect.stringMatching(/^56:6f:1a:2b:/)]);
      const nic = (body: object): Promise<Answer> => engine.api('POST', `/vms/${id}/nics`, body);
      expect(refusal(await nic({ name: 'nic2', mac: { address: mac.toUpperCase() } }))).toBe('409 NETWORK_MAC_ADDRESS_IN_USE');
      expect(refusal(await nic({ name: 'nic2', mac: { address: '56:6f' } }))).toBe('400 NETWORK_INVALID_MAC_ADDRESS');
      expect(refusal(await nic({ name: 'nic2', mac: { address: '01:00:5e:00:00:01' } }))).toBe('400 NETWORK_MULTICAST_MAC_ADDRESS');
      expect(refusal(await nic({ name: 'nic1' }))).toBe('409 NETWORK_INTERFACE_NAME_ALREADY_IN_USE');
      expect(refusal(await nic({ name: 'nic2', vnic_profile: { id: UNKNOWN } }))).toBe('400 NETWORK_NOT_IN_CLUSTER');
      expect(refusal(await nic({}))).toBe('400 INCOMPLETE_PARAMETERS');
      expect((await nic({ name: 'nic2', mac: { address: '00:11:22:33:44:55' } })).status).toBe(201);
    });

    it('run out of MACs, and may share them when the pool allows it', async () => {
      const { macPools } = engine.core.db;
      const pool = macPools.list()[0];
      const id = await made();
      if (!pool) {
        throw new Error('no pool');
      }
      macPools.put({ ...pool, ranges: [{ from: '02:00:00:00:00:01', to: '02:00:00:00:00:01' }], allowDuplicates: true });
      expect((await engine.api('POST', `/vms/${id}/nics`, { name: 'nic1' })).status).toBe(201);
      expect(refusal(await engine.api('POST', `/vms/${id}/nics`, { name: 'nic2' }))).toBe('409 MAC_POOL_NOT_ENOUGH_MAC_ADDRESSES');
      expect((await engine.api('POST', `/vms/${id}/nics`, { name: 'nic2', mac: { address: '02:00:00:00:00:01' } })).status).toBe(201);
      macPools.put(pool);
    });
  });

  describe('from an OVF', () => {
    const importOvf = (data: string, extra: object = {}, regenerate = false): Promise<Answer> =>
      engine.api('POST', '/vms', {
        cluster: { name: 'Default' },
        initialization: { ...(regenerate ? { regenerate_ids: 'true' } : {}), configuration: { type: 'ovf', data } },
        ...extra,
      });

    it('comes back with the same id, hardware, MACs and free disks', async () => {
      const id = await made({
        description: 'a "quoted" <text> & more',
        memory: 3 * 1024 ** 3,
        cpu: { topology: { sockets: 2, cores: 3, threads: 1 } },
        bios: { type: 'q35_ovmf' },
        os: { type: 'rhel_9x64' },
        high_availability: { enabled: true, priority: 50 },
        custom_properties: { custom_property: [{ name: 'lab_guest', value: 'linux' }] },
        initialization: { host_name: 'web', custom_script: 'runcmd:\n- "true"\n' },
      });
      await engine.api('POST', `/vms/${id}/nics`, { name: 'nic1', interface: 'e1000', vnic_profile: { id: profileId() } });
      const disk = addDisk('system');
      expect((await attach(id, disk)).status).toBe(201);
      const before = (await engine.api('GET', `/vms/${id}?follow=nics,diskattachments`)).json;
      const ovf = (await readOvf(id)) ?? '';
      expect(refusal(await importOvf(ovf))).toBe('409 VM_CANNOT_IMPORT_VM_EXISTS');
      expect((await engine.api('DELETE', `/vms/${id}?detach_only=true`)).status).toBe(200);
      const answer = await importOvf(ovf);
      expect([answer.status, answer.json['id']]).toEqual([201, id]);
      const after = (await engine.api('GET', `/vms/${id}?follow=nics,diskattachments`)).json;
      for (const field of [
        'name',
        'description',
        'memory',
        'cpu',
        'bios',
        'os',
        'high_availability',
        'custom_properties',
        'initialization',
        'type',
      ]) {
        expect({ [field]: after[field] }).toEqual({ [field]: before[field] });
      }
      expect(after['nics']).toMatchObject({
        nic: [
          {
            name: 'nic1',
            interface: 'e1000',
            mac: (before['nics'] as { nic: { mac: object }[] }).nic[0]?.mac,
            vnic_profile: { id: profileId() },
          },
        ],
      });
      expect(after['disk_attachments']).toMatchObject({ disk_attachment: [{ id: disk, bootable: 'true', interface: 'virtio_scsi' }] });
      expect(engine.core.db.vms.require(id).guest).toBe('linux');
    });

    it('refuses MACs in use, and gives new ids and MACs when asked to', async () => {
      const id = await made();
      await engine.api('POST', `/vms/${id}/nics`, { name: 'nic1' });
      const disk = addDisk('busy');
      await attach(id, disk);
      const other = ((await readOvf(id)) ?? '').replaceAll(id, UNKNOWN);
      expect(refusal(await importOvf(other, { name: fresh() }))).toBe('409 CANNOT_ADD_IFACE_DUE_TO_MAC_DUPLICATES');
      expect(refusal(await importOvf(other, {}, true))).toBe('409 VM_CANNOT_IMPORT_VM_NAME_EXISTS');
      const copy = await importOvf(other, { name: fresh() }, true);
      expect(copy.status).toBe(201);
      expect([id, UNKNOWN]).not.toContain(copy.json['id']);
      expect((await engine.api('GET', `/vms/${String(copy.json['id'])}/diskattachments`)).text).toBe('{}');
      expect(engine.core.events.list().some((event) => event.code === 175 && event.description.includes(disk))).toBe(true);
    });

    it.each(['', 'no xml', '<ovf:Envelope/>', '<a><Content/></a>'])('refuses the document "%s"', async (data) => {
      expect(refusal(await importOvf(data))).toBe('400 OVF_CONFIGURATION_INVALID');
    });

    it('names the missing cluster', async () => {
      expect(refusal(await importOvf('x', { cluster: undefined }))).toBe('400 INCOMPLETE_PARAMETERS');
    });

    it('keeps TPM data only in the OVF of a snapshot', async () => {
      const id = await made({ tpm_enabled: true, bios: { type: 'q35_ovmf' } });
      expect(await readOvf(id)).not.toContain('VmExternalDataSection');
      const ovf = snapshotOvf(engine.core.db, engine.core.db.vms.require(id));
      expect(ovf).toContain('VmExternalDataSection');
      const copy = await importOvf(ovf, { name: fresh() }, true);
      expect(engine.core.db.vms.require(String(copy.json['id'])).externalData).toContain('VmExternalDataContent');
    });

    it('is silently missing while a disk is locked', async () => {
      const id = await made();
      const disk = addDisk('locked');
      await attach(id, disk);
      expect(await readOvf(id)).toContain(disk);
      engine.core.db.disks.update(disk, { status: 'locked' });
      expect(await readOvf(id)).toBeUndefined();
      engine.core.db.disks.update(disk, { status: 'ok' });
    });
  });

  describe('removal', () => {
    const remove = async (id: string, query = ''): Promise<string> => {
      const answer = await engine.api('DELETE', `/vms/${id}${query}`);
      return answer.status === 200 ? '200' : refusal(answer);
    };

    it('is refused while protected, running, backed up, transferred or locked', async () => {
      const { db, locks } = engine.core;
      const id = await made({ delete_protected: true });
      expect(await remove(id)).toBe('409 DELETE_PROTECTION_ENABLED');
      await engine.api('PUT', `/vms/${id}`, { delete_protected: false });
      db.vms.update(id, { status: 'up' });
      expect(await remove(id)).toBe('409 VM_IS_RUNNING');
      db.vms.update(id, { status: 'image_locked' });
      expect(await remove(id)).toBe('409 VM_IS_RUNNING');
      db.vms.update(id, { status: 'down' });
      locks.tryAcquire({ holder: 'test', message: 'OBJECT_LOCKED', shared: [`vm:${id}`] });
      expect(await remove(id)).toBe('409 OBJECT_LOCKED');
      locks.release('test');
      expect(await remove(id)).toBe('200');
      expect((await engine.api('GET', `/vms/${id}`)).status).toBe(404);
    });

    it('takes the disks with it, unless they are only to be detached', async () => {
      const [first, second] = [addDisk('one'), addDisk('two')];
      const [a, b] = [await made(), await made()];
      await attach(a, first);
      await attach(b, second);
      expect(await remove(a)).toBe('200');
      expect(await remove(b, '?detach_only=true')).toBe('200');
      expect([engine.core.db.disks.has(first), engine.core.db.disks.has(second)]).toEqual([false, true]);
    });
  });

  it('carries tags, which are searched by', async () => {
    const id = await made();
    expect((await engine.api('POST', `/vms/${id}/tags`, { name: 'silver' })).status).toBe(201);
    expect(refusal(await engine.api('POST', `/vms/${id}/tags`, { name: 'nothing' }))).toBe('400 TAGS_SPECIFIED_TAG_CANNOT_BE_FOUND');
    const found = await engine.api('GET', '/vms?search=tag%3Dsilver');
    expect(found.json['vm']).toMatchObject([{ id }]);
    const tag = engine.core.db.tags.find(({ name }) => name === 'silver')?.id ?? '';
    expect((await engine.api('DELETE', `/vms/${id}/tags/${tag}`)).status).toBe(200);
    expect((await engine.api('GET', `/vms/${id}/tags`)).text).toBe('{}');
  });
});
