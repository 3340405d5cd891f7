/**
 * The same network data for cloud-init (Debian's package, its own code and its renderer for systemd-networkd) and for our reader: what each NIC
 * becomes must be the same; what ours leaves out it must say. The differences that are meant are in docs/operations/worker-image.md.
 */
import fc from 'fast-check';
import { networkDataSettings } from './network-data';
import { planNetwork } from './network-plan';
import { metaData, readWithCloudInit } from './testing/cloud-init';
import type { CloudInitAnswer } from './testing/cloud-init';
import { plansOfNetworkd, plansOfSteps } from './testing/network-plans';

const nics = [
  { device: 'eth0', macAddress: '56:6f:00:00:00:01' },
  { device: 'eth1', macAddress: '56:6f:00:00:00:02' },
  { device: 'eth2', macAddress: '56:6f:00:00:00:03' },
];
const macs = Object.fromEntries(nics.map(({ device, macAddress }) => [macAddress, device]));
type Json = Readonly<Record<string, unknown>>;
const vif = (name: string, more: Json = {}) => ({ id: name, name, type: 'vif', ...more });
const fixed4 = { type: 'ipv4', ip_address: '10.0.0.9', netmask: '255.255.254.0', gateway: '10.0.0.1', dns_nameservers: ['10.0.0.2'] };
const fixed6 = { type: 'ipv6', ip_address: '2001:db8::9', netmask: '64', gateway: '2001:db8::1' };
/** One network per settings, all on the link. */
const on = (link: string, ...networks: readonly Json[]) => networks.map((network, index) => ({ id: `${link}-${index}`, link, ...network }));
const told = (links: readonly Json[], networks: readonly Json[], services: readonly Json[] = []) => ({ links, networks, services });

const networksAlike: Readonly<Record<string, Json>> = {
  'DHCP, as the engine writes it': told([vif('eth0')], on('eth0', { type: 'ipv4_dhcp', dns_nameservers: ['10.0.0.2'] }), [
    { type: 'dns', address: '10.0.0.2' },
  ]),
  'static IPv4 and IPv6, as the engine writes it': told([vif('eth0')], on('eth0', fixed4, fixed6), [{ type: 'dns', address: '10.0.0.3' }]),
  'DHCP of both families': told([vif('eth0')], on('eth0', { type: 'ipv4_dhcp' }, { type: 'ipv6_dhcp' })),
  'IPv6 only': told([vif('eth1')], on('eth1', fixed6)),
  'several NICs': told(
    [vif('eth0'), vif('eth1'), vif('eth2')],
    [...on('eth0', fixed4), ...on('eth1', { type: 'ipv4_dhcp' }), ...on('eth2', fixed6)],
  ),
  'by MAC address, under another name': told(
    [{ id: 'tap1', name: 'lan', type: 'ovs', ethernet_mac_address: '56:6F:00:00:00:02', mtu: 9000 }],
    on('tap1', { ...fixed4, netmask: undefined, ip_address: '10.0.0.9/20' }),
  ),
  'by MAC address without a name': told(
    [{ id: 'tap1', type: 'phy', ethernet_mac_address: nics[2]?.macAddress, mtu: 1450 }],
    on('tap1', { type: 'ipv4_dhcp' }),
  ),
  'a MAC address that is not there': told([vif('eth0', { ethernet_mac_address: '56:6f:00:00:00:99' })], on('eth0', fixed4)),
  routes: told(
    [vif('eth0')],
    on(
      'eth0',
      {
        ...fixed4,
        gateway: undefined,
        routes: [
          { network: '0.0.0.0', netmask: '0.0.0.0', gateway: '10.0.0.1' },
          { network: '192.0.2.0', netmask: '255.255.255.128', gateway: '10.0.0.7' },
        ],
      },
      { ...fixed6, routes: [{ network: '2001:db8:1::', netmask: 'ffff:ffff:ffff::', gateway: '2001:db8::2' }] },
    ),
  ),
  'the older words': told([vif('eth0')], on('eth0', { ...fixed4, type: 'static' }, { ...fixed6, type: 'static6' })),
  'no netmask': told([vif('eth0')], on('eth0', { ...fixed4, netmask: undefined }, { ...fixed6, netmask: undefined })),
};
/** cloud-init makes something of these, or gives up altogether; ours says what it leaves out. */
const networksTold: Readonly<Record<string, readonly [data: Json, says: string]>> = {
  'a bond': [
    told(
      [
        vif('eth0', { ethernet_mac_address: nics[0]?.macAddress }),
        vif('eth1', { ethernet_mac_address: nics[1]?.macAddress }),
        { id: 'b', type: 'bond', bond_mode: 'active-backup', bond_links: ['eth0', 'eth1'], ethernet_mac_address: nics[0]?.macAddress },
      ],
      on('b', fixed4),
    ),
    'b is a bond',
  ],
  'a VLAN': [
    told([vif('eth0'), { id: 'v', type: 'vlan', vlan_link: 'eth0', vlan_id: 7, vlan_mac_address: nics[0]?.macAddress }], on('v', fixed4)),
    'v is a vlan',
  ],
  'an address that is none': [told([vif('eth0')], on('eth0', { ...fixed4, ip_address: '10.0.0.900' })), 'the address 10.0.0.900'],
  'several addresses': [told([vif('eth0')], on('eth0', fixed4, { ...fixed4, ip_address: '10.0.0.10' })), 'several ipv4 settings'],
};

const v4 = fc.integer({ min: 1, max: 254 }).map((last) => `10.0.0.${last}`);
const v6 = fc.integer({ min: 1, max: 0xffff }).map((last) => `2001:db8::${last.toString(16)}`);
const dns = fc.option(fc.uniqueArray(fc.oneof(v4, v6), { minLength: 1, maxLength: 3 }), { nil: undefined });
const routesOf = (network: fc.Arbitrary<string>, netmask: fc.Arbitrary<string>, gateway: fc.Arbitrary<string>) =>
  fc.option(fc.uniqueArray(fc.record({ network, netmask, gateway }), { maxLength: 2, selector: (route) => route.network }), {
    nil: undefined,
  });
const family4 = fc.oneof(
  fc.constant(undefined),
  fc.constant({ type: 'ipv4_dhcp' }),
  fc.record({
    type: fc.constantFrom('ipv4', 'static'),
    ip_address: v4,
    netmask: fc.constantFrom('255.255.255.0', '255.0.0.0', '255.255.255.255', '20'),
    gateway: fc.option(v4, { nil: undefined }),
    dns_nameservers: dns,
    routes: routesOf(fc.constantFrom('0.0.0.0', '192.0.2.0', '198.51.100.0'), fc.constantFrom('0.0.0.0', '255.255.255.0'), v4),
  }),
);
const family6 = fc.oneof(
  fc.constant(undefined),
  fc.constant({ type: 'ipv6_dhcp' }),
  fc.record({
    type: fc.constantFrom('ipv6', 'static6'),
    ip_address: v6,
    netmask: fc.constantFrom('64', '128', 'ffff:ffff:ffff::', '48'),
    gateway: fc.option(fc.oneof(v6, fc.constant('fe80::1')), { nil: undefined }),
    dns_nameservers: dns,
    routes: routesOf(fc.constantFrom('::', '2001:db8:1::', '2001:db8:2::'), fc.constantFrom('48', 'ffff:ffff::'), v6),
  }),
);
const generatedLink = fc.record({
  by: fc.constantFrom('name', 'mac', 'both'),
  type: fc.constantFrom('vif', 'phy', 'ovs', 'bridge'),
  mtu: fc.constantFrom(undefined, 1280, 1500, 9000),
  ipv4: family4,
  ipv6: family6,
});
const generatedNetworks = fc.sample(fc.array(generatedLink, { minLength: 1, maxLength: 3 }), { seed: 20261121, numRuns: 60 }).map((links) =>
  told(
    links.map(({ by, type, mtu }, index) => ({
      id: `tap${index}`,
      type,
      ...(mtu === undefined ? {} : { mtu }),
      ...(by === 'mac' ? {} : { name: nics[index]?.device }),
      ...(by === 'name' ? {} : { ethernet_mac_address: nics[index]?.macAddress }),
    })),
    links.flatMap(({ ipv4, ipv6 }, index) => on(`tap${index}`, ...[ipv4, ipv6].filter((one) => one !== undefined))),
  ),
);

describe('network data', () => {
  const all: readonly Json[] = [
    ...Object.values(networksAlike),
    ...Object.values(networksTold).map(([data]) => data),
    ...generatedNetworks,
  ];
  const answers = new Map<Json, CloudInitAnswer>();
  const asText = (data: Json) => JSON.stringify(data);

  beforeAll(() => {
    const cases = all.map((data) => ({
      files: { 'openstack/latest/meta_data.json': metaData, 'openstack/latest/network_data.json': asText(data) },
      macs,
    }));
    for (const [index, answer] of readWithCloudInit(cases).entries()) answers.set(all[index] ?? {}, answer);
  });

  /** NICs that nothing is said of are in neither: cloud-init has a file without content for a link without networks. */
  const ofCloudInit = (data: Json) => {
    const { plans, dnsServers } = plansOfNetworkd(answers.get(data)?.networkd ?? {}, nics);
    const isSaid = ({ asks, addresses }: (typeof plans)[string]) => asks !== 'nothing' || addresses.length > 0;
    return { plans: Object.fromEntries(Object.entries(plans).filter(([, plan]) => isSaid(plan))), dnsServers };
  };
  const ofOurs = (data: Json) => {
    const settings = networkDataSettings(asText(data), nics);
    return { plans: plansOfSteps(planNetwork(settings.nics)), dnsServers: [...settings.dnsServers].sort() };
  };

  test.each(Object.entries(networksAlike))('%s: the same plan', (_name, data) => {
    expect(answers.get(data)?.networkd).not.toHaveProperty('problem');
    expect(ofOurs(data)).toEqual(ofCloudInit(data));
  });

  test.each(Object.entries(networksTold))('%s is told on the console', (_name, [data, says]) => {
    expect(networkDataSettings(asText(data), nics).problems).toEqual([expect.stringContaining(says)]);
  });

  test('generated networks: the same plan', () => {
    for (const data of generatedNetworks) {
      expect(answers.get(data)?.networkd).not.toHaveProperty('problem');
      expect({ data, ...ofOurs(data) }).toEqual({ data, ...ofCloudInit(data) });
      expect(networkDataSettings(asText(data), nics).problems).toEqual([]);
    }
  });
});
