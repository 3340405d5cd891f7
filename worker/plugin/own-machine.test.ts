import { ownAddresses } from './own-machine';

test('its addresses are those that others may see', () => {
  const one = (address: string, family: 'IPv4' | 'IPv6', internal = false) => ({
    address,
    family,
    internal,
    netmask: '',
    mac: '',
    cidr: null,
  });
  const interfaces = {
    lo: [one('127.0.0.1', 'IPv4', true), one('::1', 'IPv6', true)],
    eth0: [one('fd00:1::9', 'IPv6'), one('10.0.0.9', 'IPv4'), one('fe80::1', 'IPv6')],
    eth1: [one('169.254.3.4', 'IPv4'), one('192.168.7.9', 'IPv4'), one('10.0.0.9', 'IPv4')],
  };
  expect(ownAddresses(interfaces as unknown as Parameters<typeof ownAddresses>[0])).toEqual(['10.0.0.9', '192.168.7.9', 'fd00:1::9']);
});
