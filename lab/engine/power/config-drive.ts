/**
 * The config drive that the engine makes for a run with cloud-init: a CD with the volume label `config-2`, in the OpenStack layout.
 * Pure: from `initialization` of the API to the files by path. Source: reference "oVirt engine REST API" section 9.3.
 */
import { randomUUID } from 'node:crypto';
import { flagOf, numberOf, objectOf, objectsOf, textOf, type ApiObject } from '../http/api-object';

/** Content by path below the root of the CD. */
export type ConfigDrive = Readonly<Record<string, string>>;

const FOLDER = 'openstack/latest';
export const USER_DATA = `${FOLDER}/user_data`;

export function configDrive(initialization: ApiObject): ConfigDrive {
  const network = networkData(initialization);
  const isEni = textOf(initialization, 'cloud_init_network_protocol') === 'eni';
  const interfaces = isEni ? etcNetworkInterfaces(initialization) : '';
  return {
    [`${FOLDER}/meta_data.json`]: json({
      ...metaData(initialization),
      ...(interfaces === ''
        ? {}
        : { 'network-interfaces': interfaces, network_config: { content_path: '/content/0000', path: '/etc/network/interfaces' } }),
    }),
    [USER_DATA]: userData(initialization),
    ...(isEni || network === undefined ? {} : { [`${FOLDER}/network_data.json`]: json(network) }),
    ...(interfaces === '' ? {} : { 'openstack/content/0000': interfaces }),
  };
}

/** A new uuid at each start, which is not the VM's id. */
function metaData(initialization: ApiObject): object {
  const hostName = textOf(initialization, 'host_name') ?? '';
  const keys = lines(textOf(initialization, 'authorized_ssh_keys'));
  return {
    availability_zone: 'nova',
    launch_index: '0',
    meta: { dsmode: 'local', essential: 'false', role: 'server' },
    uuid: randomUUID(),
    ...(hostName === '' ? {} : { hostname: hostName, name: hostName }),
    ...(keys.length === 0 ? {} : { public_keys: Object.fromEntries(keys.map((key, index) => [`key-${String(index)}`, key])) }),
  };
}

/** The engine's own keys first, then the custom script as text: it is not parsed, and a key that it repeats wins in most readers. */
function userData(initialization: ApiObject): string {
  const user = textOf(initialization, 'user_name') ?? 'root';
  const password = textOf(initialization, 'root_password');
  const timezone = textOf(initialization, 'timezone');
  const ownKeys = [
    'disable_root: false',
    'ssh_pwauth: true',
    `user: ${scalar(user)}`,
    ...(password === undefined ? [] : [`password: ${scalar(password)}`]),
    'chpasswd:',
    '  expire: false',
    ...(timezone === undefined ? [] : [`timezone: ${scalar(timezone)}`]),
    ...(flagOf(initialization, 'regenerate_ssh_keys') === true ? [`ssh_deletekeys: 'True'`] : []),
    'output:',
    `  all: '>> /var/log/cloud-init-output.log'`,
    'runcmd:',
    `- 'sed -i ''/^datasource_list: /d'' /etc/cloud/cloud.cfg; echo ''datasource_list: ["NoCloud", "ConfigDrive"]'' >> /etc/cloud/cloud.cfg'`,
  ];
  return `#cloud-config\n${ownKeys.join('\n')}\n${textOf(initialization, 'custom_script') ?? ''}`;
}

/** No MAC addresses: a guest can match a link by its name only. */
function networkData(initialization: ApiObject): object | undefined {
  const nics = configuredNics(initialization);
  const dnsServers = words(textOf(initialization, 'dns_servers'));
  const dnsSearch = words(textOf(initialization, 'dns_search'));
  if (nics.length === 0 && dnsServers.length === 0) {
    return undefined;
  }
  const networks = nics.flatMap((nic) => {
    const name = textOf(nic, 'name') ?? '';
    const dns = {
      ...(dnsServers.length === 0 ? {} : { dns_nameservers: dnsServers }),
      ...(dnsSearch.length === 0 ? {} : { dns_search: dnsSearch }),
    };
    return [
      networkOf(`${name}`, name, 'ipv4', textOf(nic, 'boot_protocol') ?? 'none', objectOf(nic, 'ip'), dns),
      networkOf(`${name}-ipv6`, name, 'ipv6', textOf(nic, 'ipv6_boot_protocol') ?? 'none', objectOf(nic, 'ipv6'), dns),
    ].flatMap((network) => network ?? []);
  });
  return {
    links: nics.map((nic) => ({ id: textOf(nic, 'name'), name: textOf(nic, 'name'), type: 'vif' })),
    networks,
    services: dnsServers.map((address) => ({ type: 'dns', address })),
  };
}

/** `autoconf` is not written out, nor is `none`. */
function networkOf(
  id: string,
  link: string,
  family: 'ipv4' | 'ipv6',
  protocol: string,
  ip: ApiObject | undefined,
  dns: object,
): object | undefined {
  if (protocol === 'dhcp') {
    return { id, link, type: `${family}_dhcp`, ...dns };
  }
  if (protocol !== 'static') {
    return undefined;
  }
  const gateway = textOf(ip, 'gateway');
  return {
    id,
    link,
    type: family,
    ip_address: textOf(ip, 'address'),
    netmask: textOf(ip, 'netmask'),
    ...(gateway === undefined ? {} : { gateway }),
    ...dns,
  };
}

function etcNetworkInterfaces(initialization: ApiObject): string {
  const nics = configuredNics(initialization);
  const stanzas = nics.map((nic) => {
    const ip = objectOf(nic, 'ip');
    const lineOf = (key: string, value: string | undefined): string => (value === undefined ? '' : `  ${key} ${value}\n`);
    const protocol = textOf(nic, 'boot_protocol') ?? 'none';
    return (
      `iface ${textOf(nic, 'name') ?? ''} inet ${protocol === 'none' ? 'manual' : protocol}\n` +
      lineOf('address', textOf(ip, 'address')) +
      lineOf('netmask', textOf(ip, 'netmask')) +
      lineOf('gateway', textOf(ip, 'gateway')) +
      lineOf('dns-nameservers', textOf(initialization, 'dns_servers')) +
      lineOf('dns-search', textOf(initialization, 'dns_search'))
    );
  });
  return nics.length === 0 ? '' : `${stanzas.join('')}auto ${nics.map((nic) => textOf(nic, 'name')).join(' ')}\n`;
}

/** A nic that does not start on boot is left out. */
const configuredNics = (initialization: ApiObject): ApiObject[] =>
  (objectsOf(initialization, 'nic_configurations') ?? []).filter((nic) => flagOf(nic, 'on_boot') === true);

const lines = (text = ''): string[] => text.split(/[\r\n]+/).filter((line) => line !== '');
const words = (text = ''): string[] => text.split(/\s+/).filter((word) => word !== '');
const scalar = (text: string): string => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "''")}'`);
const json = (value: object): string => `${JSON.stringify(value, undefined, 2)}\n`;

/** Refuses what the engine refuses of an `initialization`: a static address that is none. Returns the text of the refusal. */
export function initializationProblem(initialization: ApiObject): string | undefined {
  for (const nic of objectsOf(initialization, 'nic_configurations') ?? []) {
    const name = textOf(nic, 'name');
    if (name === undefined) {
      return 'A nic configuration needs a name.';
    }
    const isStatic = textOf(nic, 'boot_protocol') === 'static';
    const ip = objectOf(nic, 'ip');
    if (isStatic && (textOf(ip, 'address') === undefined || textOf(ip, 'netmask') === undefined)) {
      return `The static address of ${name} needs an address and a netmask.`;
    }
    if (textOf(nic, 'ipv6_boot_protocol') === 'static') {
      const ipv6 = objectOf(nic, 'ipv6');
      const prefix = Number(textOf(ipv6, 'netmask') ?? numberOf(ipv6, 'netmask'));
      if (textOf(ipv6, 'address') === undefined || !(prefix >= 1 && prefix <= 128)) {
        return `The static IPv6 address of ${name} needs an address and a prefix length in its netmask.`;
      }
    }
  }
  return undefined;
}
