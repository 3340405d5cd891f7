/** Carries out the plan, and follows the kernel afterwards: leases change, routers come and go, and the rules by source follow. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pause } from '../../common/rpc/call';
import type { Logger } from '../../common/log/logger';
import { complaint, run } from './commands';
import { planNetwork } from './network-plan';
import type { AutomaticNic, NetworkStep } from './network-plan';
import type { NetworkSettings, Nic } from './nics';
import { addressesOf, policyRoutes } from './policy-routes';
import type { KernelLink, KernelRoute, PolicyRoutes } from './policy-routes';
import { readLearned, resolverFile } from './resolver';
import type { LearnedServers } from './resolver';

/** Changes come in bursts. */
const settleMs = 300;

/** The NICs of this VM, in the kernel's order. */
export function findNics(): Nic[] {
  return fs
    .readdirSync('/sys/class/net')
    .filter((device) => fs.existsSync(`/sys/class/net/${device}/device`))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .map((device) => ({ device, macAddress: fs.readFileSync(`/sys/class/net/${device}/address`, 'utf8').trim().toLowerCase() }));
}

/** Addresses of this machine that others may reach it by: no loopback, no link-local ones. */
export function ownAddresses(): string[] {
  return Object.values(os.networkInterfaces())
    .flatMap((infos) => infos ?? [])
    .filter(({ internal, address }) => !internal && !/^(169\.254\.|fe80:)/i.test(address))
    .map(({ address }) => address);
}

export class Network {
  readonly #children: ChildProcess[] = [];
  readonly #devices: readonly string[];
  /** Where the DHCP client's hook leaves what it was told; a file per NIC and protocol. */
  readonly #learnedFolder: string;
  /** /etc/resolv.conf of the image is a link to it. */
  readonly #resolverPath: string;
  #policy: PolicyRoutes | undefined;
  #following: Promise<void> = Promise.resolve();
  #due: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(
    private readonly settings: NetworkSettings,
    private readonly logger: Logger,
    folder = '/run/tidemark',
    /** Between the end of a program that is to run for good and its next start. */
    private readonly againMs = 5_000,
  ) {
    this.#learnedFolder = path.join(folder, 'network');
    this.#resolverPath = path.join(folder, 'resolv.conf');
    this.#devices = settings.nics.map(({ device }) => device);
  }

  /** Sets everything up; does not wait for addresses. */
  async start(): Promise<void> {
    for (const problem of this.settings.problems) this.logger.error(`network: ${problem}`);
    fs.mkdirSync(this.#learnedFolder, { recursive: true });
    this.#writeResolver();
    const plan = planNetwork(this.settings.nics);
    for (const step of plan.steps) await this.#carryOut(step);
    for (const nic of plan.automatic) this.#ask(nic);
    this.#keep('ip', ['monitor', 'address', 'route', 'link'], () => this.#changed());
    fs.watch(this.#learnedFolder, () => this.#changed()).unref();
    await this.#follow();
  }

  /** Waits until every NIC that should have an address has one, at most `timeoutMs`; says which have none. */
  async waitForAddresses(timeoutMs: number, stop?: AbortSignal): Promise<void> {
    const wanted = this.settings.nics.filter(({ ipv4, ipv6 }) => ipv4.method !== 'none' || ipv6.method !== 'none');
    // The time server's answer may set the clock meanwhile.
    const until = performance.now() + timeoutMs;
    for (;;) {
      const links = await kernelLinks();
      const without = wanted.filter(({ device }) => addressesOf(links, device).length === 0).map(({ device }) => device);
      if (stop?.aborted) return;
      if (without.length === 0 || performance.now() > until) {
        for (const { device } of wanted) {
          const addresses = addressesOf(links, device);
          if (addresses.length > 0) this.logger.info(`network: ${device} has ${addresses.join(', ')}`);
          else
            this.logger.error(
              `network: ${device} got no address in ${timeoutMs / 1000} s; check its network, VLAN and DHCP or the static settings`,
            );
        }
        await this.#follow();
        return;
      }
      await pause(200);
    }
  }

  /** What DHCP and routers told so far. */
  get learned(): LearnedServers {
    return readLearned(this.#learnedFolder);
  }

  stop(): void {
    this.#ended = true;
    clearTimeout(this.#due);
    for (const child of this.#children) child.kill('SIGTERM');
  }

  async #carryOut(step: NetworkStep): Promise<void> {
    try {
      if (step.kind === 'ip') await run('ip', step.arguments);
      else fs.writeFileSync(`/proc/sys/net/${step.name}`, step.value);
    } catch (error) {
      const what = step.kind === 'ip' ? `ip ${step.arguments.join(' ')}` : `${step.name} = ${step.value}`;
      this.logger.error(`network: "${what}" failed: ${complaint(error)}`);
    }
  }

  /** One client per NIC, for as long as the VM runs; its hook writes into the folder. */
  #ask({ device, family, metric }: AutomaticNic): void {
    const only = { ipv4: ['--ipv4only'], ipv6: ['--ipv6only'], both: [] }[family];
    const args = ['--nobackground', '--quiet', '--config', '/etc/dhcpcd.conf', '--metric', String(metric), ...only, device];
    this.#keep('dhcpcd', args);
  }

  /** Starts a program and starts it again when it ends. */
  #keep(program: string, args: readonly string[], onOutput?: () => void): void {
    const child = spawn(program, [...args], { stdio: ['ignore', onOutput ? 'pipe' : 'ignore', 'ignore'] });
    this.#children.push(child);
    child.stdout?.on('data', () => onOutput?.());
    // One that could not be started, for want of memory say, has no exit.
    const again = (what: string) => {
      this.#children.splice(this.#children.indexOf(child), 1);
      if (this.#ended) return;
      this.logger.warn(`network: ${program} ${what}; it is started again`);
      setTimeout(() => !this.#ended && this.#keep(program, args, onOutput), this.againMs).unref();
    };
    child.once('error', (error) => child.pid === undefined && again(`cannot be started (${error.message})`));
    child.once('exit', (code, signal) => again(`ended with ${code ?? signal}`));
  }

  #changed(): void {
    this.#due ??= setTimeout(() => {
      this.#due = undefined;
      void this.#follow();
    }, settleMs);
  }

  /** Brings rules and resolver in line with what the kernel has now; one at a time. */
  #follow(): Promise<void> {
    this.#following = this.#following
      .then(() => this.#bringInLine())
      .catch((error: unknown) => this.logger.error(`network: ${complaint(error)}`));
    return this.#following;
  }

  async #bringInLine(): Promise<void> {
    this.#writeResolver();
    const [links, ipv4, ipv6] = [await kernelLinks(), await kernelRoutes('-4'), await kernelRoutes('-6')];
    const policy = policyRoutes(this.#devices, links, { ipv4, ipv6 }, this.#policy);
    if (JSON.stringify(policy.add) === JSON.stringify(this.#policy?.add ?? [])) return;
    // What was removed by somebody else need not be removed again.
    for (const command of policy.remove) await run('ip', command).catch(() => undefined);
    for (const command of policy.add) await this.#carryOut({ kind: 'ip', arguments: command });
    this.#policy = policy;
  }

  #writeResolver(): void {
    const text = resolverFile(this.settings, this.learned);
    const old = fs.existsSync(this.#resolverPath) ? fs.readFileSync(this.#resolverPath, 'utf8') : undefined;
    if (text === old) return;
    fs.writeFileSync(`${this.#resolverPath}.new`, text);
    fs.renameSync(`${this.#resolverPath}.new`, this.#resolverPath);
  }
}

async function kernelLinks(): Promise<KernelLink[]> {
  return parsed(await run('ip', ['-json', 'address', 'show']));
}

async function kernelRoutes(family: '-4' | '-6'): Promise<KernelRoute[]> {
  return parsed(await run('ip', [family, '-json', 'route', 'show', 'table', 'main']));
}

/** iproute2 writes nothing at all for an empty list, and empty objects for what it filtered. */
function parsed<T>(text: string): T[] {
  return text.trim() === '' ? [] : (JSON.parse(text) as T[]);
}
