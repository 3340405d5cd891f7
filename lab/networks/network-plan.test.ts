import { AddressPlan, mostClusters, mostLabs, plannedClusters } from './network-plan';

describe('network plan', () => {
  it('gives every lab and subnet other addresses, all of them private', () => {
    const nets = new Set<string>();
    for (let lab = 0; lab < mostLabs; lab += 1)
      for (let index = 0; index <= mostClusters; index += 1) nets.add(new AddressPlan(lab).ipv4Net(index));
    expect(nets.size).toBe(mostLabs * (mostClusters + 1));
    expect([...nets].every((net) => /^10\.(1[2-9]\d)\.(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])\.0\/24$/.test(net))).toBe(true);
    expect(new AddressPlan(1023).ipv6(15, 1)).toBe('fd5a:7d00:3ff:f::1');
  });

  it('says where a cluster finds the server', () => {
    const clusters = plannedClusters(
      { clusters: { a: {}, b: { nat: true }, c: { family: 'ipv6' }, d: { family: 'dual', automaticAddresses: false } } },
      ['a', 'b', 'c', 'd', 'plain'],
    );
    const addresses = new AddressPlan(2);
    expect(clusters.map((cluster) => addresses.server(cluster))).toEqual(['10.128.32.1', '198.18.2.1', 'fd5a:7d00:2::1', '10.128.32.1']);
    expect(addresses.server(undefined)).toBe('10.128.32.1');
    expect(addresses.both(clusters[3]!, 7)).toEqual(['10.128.36.7/24', 'fd5a:7d00:2:4::7/64']);
  });

  it('refuses clusters that are not there, and NAT for IPv6', () => {
    expect(() => plannedClusters({ clusters: { x: {} } }, ['a'])).toThrow('no cluster x');
    expect(() => plannedClusters({ clusters: { a: { nat: true, family: 'dual' } } }, ['a'])).toThrow('NAT');
  });
});
