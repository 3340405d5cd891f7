import type { ApiObject } from '../http/api-object';
import { EngineBench, MIB, text, type BenchOptions } from '../testing/engine-bench';
import { FakeFleet } from '../testing/fake-fleet';
import type { VmSpec } from '../../hosts/driver';
import { configDrive } from './config-drive';

const seed = 'write_files:\n- path: /etc/tidemark/worker.json\n  content: "{}"\n';

describe('starting a machine with a config drive', () => {
  let fleet: FakeFleet;
  let bench: EngineBench;

  const open = async (options: BenchOptions = {}): Promise<void> => {
    fleet = new FakeFleet();
    bench = await EngineBench.open(fleet, options);
  };
  afterEach(() => bench.close());

  const linuxVm = async (attributes: ApiObject = {}): Promise<string> => {
    const { vm } = await bench.addVm('worker', [{}]);
    bench.db.vms.update(vm.id, { attributes: { os: { type: 'other_linux' }, ...attributes } });
    return vm.id;
  };
  const start = async (vmId: string, body: ApiObject = {}): Promise<string> => {
    const answer = await bench.call('POST', `/vms/${vmId}/start`, body);
    return answer.refusal ?? String(answer.status);
  };
  const upAgain = async (vmId: string): Promise<VmSpec> => {
    await bench.until(() => bench.db.vms.get(vmId)?.status === 'up', 'up');
    return fleet.calls.filter(({ method }) => method === 'startVm').at(-1)?.args[1] as VmSpec;
  };
  const stop = async (vmId: string): Promise<void> => {
    await bench.call('POST', `/vms/${vmId}/stop`);
    await bench.until(() => bench.db.vms.get(vmId)?.status === 'down', 'down');
  };

  it('makes the drive for this run only, and applies what is stored at the first ordinary start', async () => {
    await open();
    const vmId = await linuxVm({ initialization: { host_name: 'stored' } });
    expect(await start(vmId, { vm: { initialization: { host_name: 'once', custom_script: seed } }, use_cloud_init: true })).toBe('200');
    const once = await upAgain(vmId);
    expect(once.configDrive?.['openstack/latest/user_data']).toMatch(
      /^#cloud-config\n[^]*runcmd:[^]*write_files:\n- path: \/etc\/tidemark/,
    );
    expect(once.configDrive?.['openstack/latest/meta_data.json']).toContain('"hostname": "once"');
    expect(bench.db.vms.require(vmId).attributes['initialization']).toEqual({ host_name: 'stored' });
    await stop(vmId);
    expect(await start(vmId)).toBe('200');
    expect((await upAgain(vmId)).configDrive).toBeUndefined();

    const other = await linuxVm({ initialization: { host_name: 'first' } });
    expect(await start(other)).toBe('200');
    expect((await upAgain(other)).configDrive?.['openstack/latest/meta_data.json']).toContain('"first"');
  });

  it('refuses flags that exclude each other, systems that read no drive, and a static address that is none', async () => {
    await open();
    const vmId = await linuxVm();
    expect(await start(vmId, { use_cloud_init: true, use_sysprep: true })).toBe('CANT_USE_MIXED_INIT_SIMULTANEOUSLY');
    const nic = { name: 'eth0', on_boot: true, boot_protocol: 'static', ip: { netmask: '255.255.255.0' } };
    expect(await start(vmId, { use_cloud_init: true, vm: { initialization: { nic_configurations: [nic] } } })).toBe('VM_INIT_INVALID');
    bench.db.vms.update(vmId, { attributes: { os: { type: 'windows_2022' } } });
    expect(await start(vmId, { use_cloud_init: true })).toBe('CLOUD_INIT_NOT_SUPPORTED_BY_OS');
    expect(bench.core.locks.list()).toEqual([]);
    expect(bench.db.vms.require(vmId).status).toBe('down');
  });

  it('runs a worker as the lab is told to, and only what carries a seed', async () => {
    await open({ settings: { workerVms: 'process' } });
    const vmId = await linuxVm({ bios: { type: 'q35_ovmf' } });
    await start(vmId, { use_cloud_init: true, vm: { initialization: { custom_script: seed } } });
    expect(await upAgain(vmId)).toMatchObject({ guest: 'process', machine: { chipset: 'q35', firmware: 'uefi' } });
    await stop(vmId);
    await start(vmId, { use_cloud_init: true, vm: { initialization: {} } });
    expect(await upAgain(vmId)).toMatchObject({ guest: 'none' });
  });

  it('waits for the guest at a shutdown, and is up again when it does not go', async () => {
    await open({ settings: { workerVms: 'guest' } });
    const vmId = await linuxVm();
    await start(vmId, { use_cloud_init: true, vm: { initialization: { custom_script: seed } } });
    await upAgain(vmId);
    fleet.ignoresShutdown.add(vmId);
    await bench.call('POST', `/vms/${vmId}/shutdown`);
    await bench.until(() => fleet.countOf('shutdownVm') === 1, 'asked');
    await upAgain(vmId);
    fleet.ignoresShutdown.clear();
    await bench.call('POST', `/vms/${vmId}/shutdown`);
    await bench.until(() => bench.db.vms.get(vmId)?.status === 'down', 'down');
  });

  it('reports what the agent says of plugged nics', async () => {
    await open({ settings: { workerVms: 'guest' } });
    const vmId = await linuxVm();
    const macAddress = '56:6f:1a:2b:00:07';
    bench.db.nics.put({ id: 'nic', vmId, name: 'nic1', interface: 'virtio', macAddress, plugged: true, linked: true });
    await start(vmId, { use_cloud_init: true, vm: { initialization: { custom_script: seed } } });
    await upAgain(vmId);
    const reported = async (): Promise<readonly ApiObject[]> => (await bench.call('GET', `/vms/${vmId}/reporteddevices`)).entities;
    expect(await reported()).toEqual([]);
    fleet.guestNetworks.set(vmId, [{ name: 'enp1s0', macAddress, addresses: ['10.0.0.9', 'fe80::1'] }]);
    expect(await reported()).toMatchObject([
      { name: 'enp1s0', mac: { address: macAddress }, ips: [{ address: '10.0.0.9', version: 'v4' }, { version: 'v6' }] },
    ]);
  });

  it('starts no machine for which no host has the memory, and keeps workers apart', async () => {
    await open();
    const gib = 1024 * MIB;
    const start1 = await linuxVm({ memory_policy: { guaranteed: 12 * gib } });
    const start2 = await linuxVm({ memory_policy: { guaranteed: 12 * gib } });
    const start3 = await linuxVm({ memory_policy: { guaranteed: 12 * gib } });
    expect([await start(start1), await start(start2)]).toEqual(['200', '200']);
    const refused = await bench.call('POST', `/vms/${start3}/start`);
    expect([refused.status, refused.refusal]).toEqual([409, 'SCHEDULING_ALL_HOSTS_FILTERED_OUT']);
    expect(refused.detail).toContain('Memory');
    const [host = ''] = bench.hostIds;
    expect(Number((await bench.call('GET', `/hosts/${host}`)).body['max_scheduling_memory'])).toBeLessThan(4 * gib);

    const group = await bench.call('POST', `/clusters/${bench.clusterId}/affinitygroups`, {
      name: 'workers',
      vms_rule: { enabled: true, positive: false, enforcing: true },
    });
    const small = [await linuxVm({ memory_policy: { guaranteed: MIB } }), await linuxVm({ memory_policy: { guaranteed: MIB } })];
    for (const id of small) await bench.call('POST', `/clusters/${bench.clusterId}/affinitygroups/${text(group.body['id'])}/vms`, { id });
    for (const id of small) expect(await start(id)).toBe('200');
    expect(new Set(small.map((id) => bench.db.vms.require(id).hostId)).size).toBe(2);
  });
});

describe('the config drive', () => {
  it('has the files of OpenStack, the network without MAC addresses, and the script as it was given', () => {
    const drive = configDrive({
      host_name: 'w1',
      authorized_ssh_keys: 'ssh-ed25519 A\nssh-ed25519 B\n',
      dns_servers: '10.0.0.2 10.0.0.3',
      nic_configurations: [
        { name: 'eth0', on_boot: true, boot_protocol: 'dhcp', ipv6_boot_protocol: 'autoconf' },
        {
          name: 'eth1',
          on_boot: true,
          boot_protocol: 'static',
          ip: { address: '10.1.0.9', netmask: '255.255.255.0', gateway: '10.1.0.1' },
        },
        { name: 'eth2', on_boot: false, boot_protocol: 'dhcp' },
      ],
      custom_script: 'not: [parsed',
    });
    const network = JSON.parse(drive['openstack/latest/network_data.json'] ?? '') as {
      links: object[];
      networks: object[];
      services: object[];
    };
    expect(network.links).toEqual([
      { id: 'eth0', name: 'eth0', type: 'vif' },
      { id: 'eth1', name: 'eth1', type: 'vif' },
    ]);
    expect(network.networks).toMatchObject([
      { link: 'eth0', type: 'ipv4_dhcp' },
      { link: 'eth1', type: 'ipv4', ip_address: '10.1.0.9', netmask: '255.255.255.0', gateway: '10.1.0.1' },
    ]);
    expect(network.services).toEqual([
      { type: 'dns', address: '10.0.0.2' },
      { type: 'dns', address: '10.0.0.3' },
    ]);
    expect(drive['openstack/latest/user_data']?.endsWith('\nnot: [parsed')).toBe(true);
    const meta = JSON.parse(drive['openstack/latest/meta_data.json'] ?? '') as { uuid: string; public_keys: object };
    expect(Object.values(meta.public_keys)).toEqual(['ssh-ed25519 A', 'ssh-ed25519 B']);
    expect(JSON.parse(configDrive({})['openstack/latest/meta_data.json'] ?? '')).not.toMatchObject({ uuid: meta.uuid });
  });
});
