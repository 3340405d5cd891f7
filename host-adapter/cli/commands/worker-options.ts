/** What the command line says about a worker VM, as the REST API takes it. */
import net from 'node:net';
import type { Command } from 'commander';
import { usage } from '../cli-failure';

export interface SettingsOptions {
  name?: string;
  description?: string;
  storageDomain?: string;
  network?: string[];
  tasks?: string;
  cpus?: string;
  memory?: string;
  dns?: string[];
  dnsSearch?: string[];
  ntp?: string[];
  host?: string[];
  avoidHostTag?: string[];
}

const collect = (value: string, before: string[] = []) => [...before, value];

/** The options of `deploy`, `edit` and, for workers deployed automatically, `policy`. */
export function settingsOptions(command: Command): Command {
  return command
    .option('--storage-domain <name>', 'where its disk lies; the domain with the most free space unless given')
    .option(
      '--network <settings>',
      'a NIC, repeatable: profile=NAME,ipv4=dhcp|ADDRESS/LENGTH|none,gw=…,ipv6=auto|…,mtu=…,route=NET@VIA',
      collect,
    )
    .option('--tasks <n>', 'VMs at the same time; decides the size')
    .option('--cpus <n>', 'vCPUs, when the size by tasks will not do')
    .option('--memory <size>', 'e.g. 4GiB')
    .option('--dns <address>', 'name server, repeatable', collect)
    .option('--dns-search <domain>', 'repeatable', collect)
    .option('--ntp <server>', 'repeatable', collect)
    .option('--host <name>', 'only on these hosts, repeatable', collect)
    .option('--avoid-host-tag <tag>', 'not on hosts with this tag, repeatable', collect);
}

/** The word that gives a choice back. */
const giveBack = 'default';

/** Only what was said; `default` as null or an empty list. Throws a usage failure. */
export function settingsBody(options: SettingsOptions): Record<string, unknown> {
  const { name, description, storageDomain, tasks, cpus, memory } = options;
  const said: Record<string, unknown> = {
    name: textOf(name),
    description: textOf(description),
    storageDomain: textOf(storageDomain),
    taskSlots: countOf('--tasks', tasks),
    cpuCount: countOf('--cpus', cpus),
    memoryBytes: memory === undefined || memory === giveBack ? textOf(memory) : bytesOf('--memory', memory),
    nics: listOf(options.network)?.map(networkOf),
    dnsServers: listOf(options.dns),
    dnsSearch: listOf(options.dnsSearch),
    ntpServers: listOf(options.ntp),
    hosts: listOf(options.host),
    avoidedHostTags: listOf(options.avoidHostTag),
  };
  return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
}

function textOf(value: string | undefined): string | null | undefined {
  return value === giveBack ? null : value;
}

function listOf(values: string[] | undefined): string[] | undefined {
  return values?.length === 1 && values[0] === giveBack ? [] : values;
}

function countOf(option: string, value: string | undefined): number | null | undefined {
  if (value === undefined || value === giveBack) return textOf(value) as null | undefined;
  return wholeNumber(option, value);
}

/** Throws a usage failure. */
export function wholeNumber(option: string, value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw usage(`${option}: "${value}" is not a whole number`);
  return Number(value);
}

const unitBytes: Readonly<Record<string, number>> = { k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

/** e.g. 4GiB, 4096MiB, 4G; a bare number is bytes. Throws a usage failure. */
export function bytesOf(option: string, value: string): number {
  const [, digits, unit = ''] = /^(\d{1,15})\s*(?:([kmgt])(?:i?b)?)?$/i.exec(value) ?? [];
  if (digits === undefined) throw usage(`${option}: "${value}" is not a size such as 4GiB`);
  return Number(digits) * (unitBytes[unit.toLowerCase()] ?? 1);
}

interface Family {
  method: 'automatic' | 'static' | 'none';
  address?: string;
  gateway?: string;
}

/** One `--network`. Throws a usage failure. */
export function networkOf(text: string): Record<string, unknown> {
  const wrong = (problem: string) => usage(`--network "${text}": ${problem}`);
  const nic: { vnicProfile?: string; ipv4?: Family; ipv6?: Family; mtu?: number; routes: { destination: string; via?: string }[] } = {
    routes: [],
  };
  const gateways: string[] = [];
  for (const part of text.split(',')) {
    const equals = part.indexOf('=');
    const [key, value] = [part.slice(0, equals).trim(), part.slice(equals + 1).trim()];
    if (equals < 1 || value === '') throw wrong(`"${part}" is not NAME=VALUE`);
    switch (key) {
      case 'profile':
        nic.vnicProfile = value;
        break;
      case 'ipv4':
      case 'ipv6':
        nic[key] = familyOf(value);
        break;
      case 'gw':
        gateways.push(value);
        break;
      case 'mtu':
        nic.mtu = wholeNumber('--network mtu', value);
        break;
      case 'route': {
        const [destination = '', via] = value.split('@');
        nic.routes.push({ destination, ...(via === undefined ? {} : { via }) });
        break;
      }
      default:
        throw wrong(`"${key}" is none of profile, ipv4, ipv6, gw, mtu, route`);
    }
  }
  if (nic.vnicProfile === undefined) throw wrong('profile=… is missing');
  for (const gateway of gateways) {
    const family = nic[net.isIPv6(gateway) ? 'ipv6' : 'ipv4'];
    if (family?.method !== 'static') throw wrong(`the gateway ${gateway} goes with a static address of its family`);
    family.gateway = gateway;
  }
  return nic;
}

function familyOf(value: string): Family {
  if (value === 'dhcp' || value === 'auto' || value === 'automatic') return { method: 'automatic' };
  return value === 'none' ? { method: 'none' } : { method: 'static', address: value.replace(/^static:/, '') };
}
