/** Two ways to say what a NIC should be, brought to one form: our steps, and cloud-init's .network files for systemd-networkd. */
import type { NetworkPlan } from '../network-plan';
import type { Nic } from '../nics';

export interface NicPlan {
  readonly asks: 'ipv4' | 'ipv6' | 'both' | 'nothing';
  readonly mtu: number | undefined;
  /** Sorted, with prefix length. */
  readonly addresses: readonly string[];
  /** Sorted, `destination via gateway`. */
  readonly routes: readonly string[];
}

const defaultRoutes = ['0.0.0.0/0', '::/0', 'default'];

/** By device, those that anything is said of. */
export function plansOfSteps({ steps, automatic }: NetworkPlan): Record<string, NicPlan> {
  const commands = steps.flatMap((step) => (step.kind === 'ip' ? [step.arguments] : []));
  const after = (words: readonly string[], name: string) => (words.includes(name) ? words[words.indexOf(name) + 1] : undefined);
  const devices = commands.filter(([, set]) => set === 'set').map((words) => after(words, 'dev') ?? '');
  return Object.fromEntries(
    devices
      .filter((device) => device !== 'lo')
      .map((device) => {
        const mine = commands.filter((words) => after(words, 'dev') === device);
        const mtu = mine.flatMap((words) => after(words, 'mtu') ?? [])[0];
        return [
          device,
          {
            asks: automatic.find((one) => one.device === device)?.family ?? 'nothing',
            mtu: mtu === undefined ? undefined : Number(mtu),
            addresses: mine
              .filter((words) => words[1] === 'address')
              .map((words) => words[3] ?? '')
              .sort(),
            routes: mine
              .filter((words) => words[1] === 'route')
              .map((words) => routeText(words[3] ?? '', after(words, 'via')))
              .sort(),
          },
        ];
      }),
  );
}

/** By device of this VM; a file whose match fits none is left out, as it would have no effect. Also the name servers of all. */
export function plansOfNetworkd(files: Readonly<Record<string, string>>, nics: readonly Nic[]) {
  const plans: Record<string, NicPlan> = {};
  const dnsServers = new Set<string>();
  for (const text of Object.values(files)) {
    const sections = sectionsOf(text);
    const all = (section: string, key: string) =>
      sections.filter(({ name }) => name === section).flatMap(({ values }) => values[key] ?? []);
    all('Network', 'DNS')
      .flatMap((words) => words.split(/\s+/))
      .forEach((server) => dnsServers.add(server));
    const [mac, name] = [all('Match', 'MACAddress')[0], all('Match', 'Name')[0]];
    const nic = nics.find((one) => (mac === undefined ? one.device === name : one.macAddress === mac));
    if (!nic) continue;
    const mtu = all('Link', 'MTUBytes')[0];
    plans[nic.device] = {
      asks: ({ yes: 'both', ipv4: 'ipv4', ipv6: 'ipv6' } as const)[all('Network', 'DHCP')[0] ?? ''] ?? 'nothing',
      mtu: mtu === undefined ? undefined : Number(mtu),
      addresses: all('Address', 'Address').sort(),
      routes: sections
        .filter((section) => section.name === 'Route')
        .map(({ values }) => routeText(values['Destination']?.[0] ?? 'default', values['Gateway']?.[0]))
        .sort(),
    };
  }
  return { plans, dnsServers: [...dnsServers].sort() };
}

function routeText(destination: string, via: string | undefined): string {
  return `${defaultRoutes.includes(destination) ? 'default' : destination} via ${via ?? 'nobody'}`;
}

interface Section {
  readonly name: string;
  readonly values: Record<string, string[]>;
}

/** systemd.syntax(7), as far as cloud-init uses it. */
function sectionsOf(text: string): Section[] {
  const sections: Section[] = [];
  for (const line of text.split('\n')) {
    const head = /^\[(.+)\]$/.exec(line);
    const [key = '', ...rest] = line.split('=');
    const current = sections.at(-1);
    if (head) sections.push({ name: head[1] ?? '', values: {} });
    else if (current && rest.length > 0) (current.values[key] ??= []).push(rest.join('='));
  }
  return sections;
}
