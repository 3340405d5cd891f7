import { execFile, type ExecFileException } from 'node:child_process';

/** The tools of the networks: iproute2, nftables, util-linux. A missing tool or missing rights are told as such. */
export class NetworkError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'NetworkError';
  }
}

/** `inNamespace` undefined: where this process is. */
export type Namespace = string | undefined;

export const enterNamespace = (namespace: Namespace): readonly string[] =>
  namespace === undefined ? [] : ['nsenter', `--net=/run/netns/${namespace}`];

/** Runs to the end; gives standard output. `accepts` tells failures that are fine. */
export async function runCommand(command: readonly string[], options: { input?: string; accepts?: RegExp } = {}): Promise<string> {
  const [file = '', ...args] = command;
  return await new Promise((resolve, reject) => {
    const child = execFile(file, args, { timeout: 120_000 }, (error: ExecFileException | null, stdout, stderr) => {
      if (error === null || options.accepts?.test(stderr) === true) resolve(stdout);
      else reject(new NetworkError(`${command.join(' ')} failed: ${stderr.trim() || error.message}`, { cause: error }));
    });
    if (options.input !== undefined) child.stdin?.end(options.input);
  });
}

/** `ip`, in a namespace or here. What exists already or is gone already is fine. */
export async function ip(namespace: Namespace, ...args: string[]): Promise<string> {
  const accepts = /File exists|Cannot find device|does not exist|No such (process|file|device)|already assigned/;
  return await runCommand(['ip', ...(namespace === undefined ? [] : ['-n', namespace]), ...args], { accepts });
}

export async function nft(namespace: Namespace, rules: string): Promise<void> {
  await runCommand([...enterNamespace(namespace), 'nft', '-f', '-'], { input: rules });
}

/** Files below /proc/sys/net are those of the namespace of who writes. */
export async function sysctl(namespace: Namespace, settings: Readonly<Record<string, string>>): Promise<void> {
  const lines = Object.entries(settings).map(([name, value]) => `echo ${value} > /proc/sys/net/${name}`);
  await runCommand([...enterNamespace(namespace), 'sh', '-c', lines.join(' && ')]);
}

export async function requireTools(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new NetworkError('Networks of the lab need root: start it as root, or without --worker-vms guest and networks.');
  for (const [tool, debianPackage] of [
    ['ip', 'iproute2'],
    ['nft', 'nftables'],
    ['nsenter', 'util-linux'],
    ['dnsmasq', 'dnsmasq-base'],
    ['chronyd', 'chrony'],
  ] as const)
    await runCommand(['sh', '-c', `command -v ${tool}`]).catch(() => {
      throw new NetworkError(`Networks of the lab need ${tool}: install the package ${debianPackage}.`);
    });
}
