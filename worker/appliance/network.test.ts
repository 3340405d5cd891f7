import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { ApplianceSeed } from '../../common/appliance/seed';
import { planNetwork } from './network-plan';
import { networkSettings } from './network-settings';
import type { NicSettings } from './nics';
import { policyRoutes } from './policy-routes';
import { learnedServers, resolverFile } from './resolver';

const nics = [
  { device: 'eth0', macAddress: '56:6f:00:00:00:01' },
  { device: 'eth1', macAddress: '56:6f:00:00:00:02' },
];
const none = { method: 'none' } as const;
const automatic = { method: 'automatic' } as const;

const seedWith = (part: Partial<ApplianceSeed>): ApplianceSeed => ({
  version: 1,
  workerId: '0d9f5f0e-52f5-4c3d-9b0e-1f0c5a3a7b11',
  hostName: 'w',
  platformId: 'p',
  clusterId: 'c',
  taskSlots: 1,
  plugin: { endpoint: 'a:1', enrolmentEndpoint: 'a:2', enrolmentToken: 't' },
  interfaces: [],
  dnsServers: [],
  dnsSearch: [],
  ntpServers: [],
  ...part,
});

/** One line per step, as one would type it. */
const lines = (settings: readonly NicSettings[]) =>
  planNetwork(settings).steps.map((step) => (step.kind === 'ip' ? `ip ${step.arguments.join(' ')}` : `${step.name}=${step.value}`));

describe('settings', () => {
  test('the seed finds its NICs by MAC address, in its own order, and says what it does not find', () => {
    const settings = networkSettings(
      seedWith({
        interfaces: [
          { macAddress: '56:6f:00:00:00:02', ipv4: automatic, ipv6: none, routes: [] },
          { macAddress: '56:6f:00:00:00:99', ipv4: automatic, ipv6: none, routes: [] },
        ],
      }),
      undefined,
      nics,
    );
    expect(settings.nics.map(({ device }) => device)).toEqual(['eth1']);
    expect(settings.problems).toEqual([
      'no NIC of this VM has the MAC address 56:6f:00:00:00:99',
      'eth0 (56:6f:00:00:00:01) has no settings and stays down',
    ]);
  });

  test('without NICs in the seed the engine’s network data counts: by name, else by order', () => {
    const data = JSON.stringify({
      links: [
        { id: 'enp1s0', name: 'enp1s0', type: 'vif' },
        { id: 'eth1', name: 'eth1', type: 'vif' },
      ],
      networks: [
        {
          id: 'a',
          link: 'enp1s0',
          type: 'ipv4',
          ip_address: '10.0.0.9',
          netmask: '255.255.254.0',
          gateway: '10.0.0.1',
          dns_nameservers: ['10.0.0.2'],
        },
        { id: 'b', link: 'eth1', type: 'ipv4_dhcp' },
        { id: 'c', link: 'eth1', type: 'ipv6', ip_address: '2001:db8::9', netmask: '64' },
      ],
      services: [{ type: 'dns', address: '10.0.0.3' }],
    });
    const settings = networkSettings(seedWith({}), data, nics);
    expect(settings).toEqual({
      nics: [
        { device: 'eth0', ipv4: { method: 'static', address: '10.0.0.9/23', gateway: '10.0.0.1' }, ipv6: none, routes: [] },
        { device: 'eth1', ipv4: automatic, ipv6: { method: 'static', address: '2001:db8::9/64' }, routes: [] },
      ],
      dnsServers: ['10.0.0.3', '10.0.0.2'],
      dnsSearch: [],
      problems: [],
    });
  });

  test.each([
    ['no network data', undefined, 0],
    ['network data with name servers only', '{"links":[],"networks":[],"services":[{"type":"dns","address":"10.0.0.3"}]}', 0],
    ['network data that is not JSON', '{', 1],
  ])('with %s every NIC is automatic', (_name, data, problems) => {
    const settings = networkSettings(seedWith({ dnsServers: ['10.1.1.1'] }), data, nics);
    expect(settings.nics).toEqual(nics.map(({ device }) => ({ device, ipv4: automatic, ipv6: automatic, routes: [] })));
    expect(settings.dnsServers).toEqual(['10.1.1.1']);
    expect(settings.problems).toHaveLength(problems);
  });
});

describe('plan', () => {
  test('a static NIC: MTU, address, way out, routes', () => {
    const nic: NicSettings = {
      device: 'eth0',
      mtu: 9000,
      ipv4: { method: 'static', address: '10.0.0.9/24', gateway: '10.0.0.1' },
      ipv6: none,
      routes: [{ destination: '10.9.0.0/16', via: '10.0.0.254' }, { destination: '192.0.2.1/32' }],
    };
    expect(lines([nic])).toEqual([
      'ip link set dev lo up',
      'ipv6/conf/eth0/disable_ipv6=1',
      'ipv4/conf/eth0/rp_filter=2',
      'ipv4/conf/eth0/arp_ignore=1',
      'ipv4/conf/eth0/arp_announce=2',
      'ip link set dev eth0 mtu 9000 up',
      'ip -4 address replace 10.0.0.9/24 dev eth0',
      'ip -4 route replace default via 10.0.0.1 onlink dev eth0 metric 100',
      'ip -4 route replace 10.9.0.0/16 via 10.0.0.254 onlink dev eth0 metric 100',
      'ip -4 route replace 192.0.2.1/32 dev eth0 metric 100',
    ]);
  });

  test('IPv6 only, static: no IPv4 step, the kernel takes nothing by itself before the link is up', () => {
    const nic: NicSettings = {
      device: 'eth0',
      ipv4: none,
      ipv6: { method: 'static', address: '2001:db8::9/64', gateway: 'fe80::1' },
      routes: [{ destination: '2001:db8:1::/48', via: '2001:db8::2' }],
    };
    const found = lines([nic]);
    expect(found.filter((line) => line.startsWith('ip -4'))).toEqual([]);
    expect(found.indexOf('ipv6/conf/eth0/accept_ra=0')).toBeLessThan(found.indexOf('ip link set dev eth0 up'));
    expect(found.slice(-3)).toEqual([
      'ip -6 address replace 2001:db8::9/64 dev eth0',
      'ip -6 route replace default via fe80::1 dev eth0 metric 100',
      'ip -6 route replace 2001:db8:1::/48 via 2001:db8::2 onlink dev eth0 metric 100',
    ]);
  });

  test('automatic NICs ask by family; the first one’s way out is preferred', () => {
    const { automatic: asked } = planNetwork([
      { device: 'eth0', ipv4: automatic, ipv6: automatic, routes: [] },
      { device: 'eth1', ipv4: none, ipv6: automatic, routes: [] },
      { device: 'eth2', ipv4: automatic, ipv6: none, routes: [] },
      { device: 'eth3', ipv4: none, ipv6: none, routes: [] },
    ]);
    expect(asked).toEqual([
      { device: 'eth0', family: 'both', metric: 100 },
      { device: 'eth1', family: 'ipv6', metric: 200 },
      { device: 'eth2', family: 'ipv4', metric: 300 },
    ]);
  });

  test('an MTU that IPv6 cannot live with turns it off', () => {
    expect(lines([{ device: 'eth0', mtu: 1000, ipv4: automatic, ipv6: automatic, routes: [] }])).toContain('ipv6/conf/eth0/disable_ipv6=1');
  });
});

describe('rules by source', () => {
  const links = [
    { ifname: 'eth0', addr_info: [{ family: 'inet', local: '10.0.0.9', scope: 'global' }] },
    {
      ifname: 'eth1',
      addr_info: [
        { family: 'inet', local: '10.1.0.9', scope: 'global' },
        { family: 'inet6', local: '2001:db8::9', scope: 'global' },
        { family: 'inet6', local: '2001:db8::10', scope: 'global', tentative: true },
        { family: 'inet6', local: 'fe80::9', scope: 'link' },
      ],
    },
  ];
  const routes = {
    ipv4: [
      { dst: 'default', gateway: '10.0.0.1', dev: 'eth0', flags: ['onlink'] },
      { dst: 'default', gateway: '10.1.0.1', dev: 'eth1', flags: [] },
      { dst: '10.0.0.0/24', dev: 'eth0', prefsrc: '10.0.0.9', flags: [] },
      { dst: '10.1.0.0/24', dev: 'eth1', prefsrc: '10.1.0.9', flags: [] },
    ],
    ipv6: [
      { dst: '2001:db8::/64', dev: 'eth1', flags: [] },
      { dst: 'fe80::/64', dev: 'eth1', flags: [] },
      { dst: 'default', gateway: 'fe80::1', dev: 'eth1', flags: [] },
    ],
  };
  const text = (commands: readonly (readonly string[])[]) => commands.map((command) => command.join(' '));

  test('each NIC has a table with its own ways, and each address a rule to it', () => {
    expect(text(policyRoutes(['eth0', 'eth1'], links, routes, undefined).add)).toEqual([
      '-4 route replace default via 10.0.0.1 dev eth0 onlink table 101',
      '-4 route replace 10.0.0.0/24 dev eth0 src 10.0.0.9 table 101',
      '-4 rule add pref 1000 from 10.0.0.9 lookup 101',
      '-4 route replace default via 10.1.0.1 dev eth1 table 102',
      '-4 route replace 10.1.0.0/24 dev eth1 src 10.1.0.9 table 102',
      '-4 rule add pref 1064 from 10.1.0.9 lookup 102',
      '-6 route replace 2001:db8::/64 dev eth1 table 102',
      '-6 route replace default via fe80::1 dev eth1 table 102',
      '-6 rule add pref 1064 from 2001:db8::9 lookup 102',
    ]);
  });

  test('a lease that changes takes the old rule and table away first', () => {
    const before = policyRoutes(['eth0'], links, routes, undefined);
    const after = policyRoutes(
      ['eth0'],
      [{ ifname: 'eth0', addr_info: [{ family: 'inet', local: '10.0.0.77', scope: 'global' }] }],
      routes,
      before,
    );
    expect(text(after.remove)).toEqual(['-4 route flush table 101', '-4 rule del pref 1000']);
    expect(text(after.add)).toContain('-4 rule add pref 1000 from 10.0.0.77 lookup 101');
  });

  test('without addresses there is nothing to do', () => {
    expect(policyRoutes(['eth0'], [], routes, undefined)).toEqual({ remove: [], add: [] });
  });
});

describe('name servers', () => {
  const learned = learnedServers([
    'new_domain_name_servers=10.0.0.2 10.0.0.3\nnew_domain_name=example.com\nnew_ntp_servers=10.0.0.4\nnew_ip_address=10.0.0.9\n',
    'nd1_rdnss1_servers=2001:db8::53\nnd1_dnssl1_search=six.example.com\n',
    'new_dhcp6_name_servers=2001:db8::53 2001:db8::54\n',
  ]);

  test('DHCP, DHCPv6 and routers are heard', () => {
    expect(learned).toEqual({
      dnsServers: ['10.0.0.2', '10.0.0.3', '2001:db8::53', '2001:db8::54'],
      dnsSearch: ['example.com', 'six.example.com'],
      ntpServers: ['10.0.0.4'],
    });
  });

  test('what was told beats what was learned; three servers at most', () => {
    expect(resolverFile({ dnsServers: ['192.0.2.1'], dnsSearch: [] }, learned)).toBe(
      'search example.com six.example.com\nnameserver 192.0.2.1\noptions timeout:2 attempts:2\n',
    );
    expect(resolverFile({ dnsServers: [], dnsSearch: [] }, learned).match(/nameserver/g)).toHaveLength(3);
  });
});

/** Follows a network in a process that finds no programs at all, until there is one. */
const programLater = `
  const fs = require('node:fs');
  const { Network } = require(process.argv[1]);
  const folder = process.argv[2];
  const said = [];
  const logger = { error: (text) => said.push(text), warn: (text) => said.push(text), info: () => {}, debug: () => {} };
  const network = new Network({ nics: [], dnsServers: [], dnsSearch: [], problems: [] }, logger, folder, 50);
  (async () => {
    await network.start();
    while (!said.some((text) => text.includes('cannot be started'))) await new Promise((resolve) => setTimeout(resolve, 20));
    fs.writeFileSync(folder + '/programs/ip', '#!/bin/sh\\necho "$@" >> ' + folder + '/called\\n', { mode: 0o755 });
    while (!fs.existsSync(folder + '/called')) await new Promise((resolve) => setTimeout(resolve, 20));
    process.exit(0);
  })();
`;

test('a program that is to run for good and could not be started is started again', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-network-'));
  try {
    fs.mkdirSync(path.join(folder, 'programs'));
    execFileSync(process.execPath, ['-e', programLater, path.join(__dirname, 'network.js'), folder], {
      env: { PATH: path.join(folder, 'programs') },
      timeout: 230_000,
    });
    expect(fs.readFileSync(path.join(folder, 'called'), 'utf8')).toContain('monitor');
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
