/** Makes the machine that this runs on a mover of a server: configuration, token and systemd unit. The mover enrols when it is started. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../common/lifecycle/process-info';
import { durableWrite } from '../../common/tls/durable-write';
import { parseToken } from '../../common/tls/token';
import { CliFailure, usage } from './cli-failure';
import type { CommandContext } from './context';
import { ExitCode } from './exit-code';

export interface SetUpOptions {
  readonly server: string;
  readonly enrolment?: string;
  readonly tokenFile?: string;
  readonly address: readonly string[];
  readonly dataFolder: string;
  readonly config: string;
  readonly gateway?: boolean;
  readonly installUnit?: boolean;
}

const unit = 'tidemark-mover.service';
/** Where a package puts the unit, and where an administrator's own goes, which comes first. */
const packagedUnit = `/usr/lib/systemd/system/${unit}`;
const unitFolder = '/etc/systemd/system';
const packagedConfig = '/etc/tidemark/mover.json';
const run = promisify(execFile);

/** Throws USAGE, and UNIT_NOT_INSTALLED when systemd refuses. */
export async function setUpMover({ output, process }: CommandContext, options: SetUpOptions): Promise<void> {
  const { dataFolder, config } = options;
  const token = await readToken(process.stdin, options.tokenFile);
  const endpoint = withPort(options.server, 8444, '--server');
  const host = endpoint.slice(0, endpoint.lastIndexOf(':'));
  const enrolmentEndpoint = withPort(options.enrolment ?? host, 8449, '--enrolment');
  if (options.installUnit === true && os.userInfo().uid !== 0) throw usage('--install-unit needs root');
  const tokenFile = path.join(path.dirname(config), 'mover-token');
  const enrolled = fs.existsSync(path.join(dataFolder, 'identity', 'identity.json'));
  const addresses = options.address.length > 0 ? [...options.address] : [...new Set([os.hostname(), ...ownAddresses()])];
  const content = {
    dataFolder,
    addresses,
    ...(options.gateway === true ? { gateway: true } : {}),
    host: { endpoint, enrolmentEndpoint, enrolmentTokenFile: tokenFile },
  };
  durableWrite(tokenFile, `${token}\n`, 0o600);
  durableWrite(config, `${JSON.stringify(content, null, 2)}\n`, 0o644);
  if (options.installUnit === true) await installUnit(config, tokenFile, dataFolder);
  const done = { config, tokenFile, dataFolder, addresses, endpoint, enrolmentEndpoint, unit: options.installUnit === true ? unit : null };
  const lines = [
    `${config} is written; this machine is announced as ${addresses[0]}`,
    enrolled ? `it is enrolled already: to enrol it anew, remove ${path.join(dataFolder, 'identity')}` : '',
    options.installUnit === true
      ? `${unit} is installed and started; "journalctl -u ${unit}" shows its log`
      : `start it with: tidemark mover --config ${config}`,
  ];
  output.done(lines.filter((line) => line !== '').join('\n'), done);
}

async function readToken(stdin: NodeJS.ReadStream, file: string | undefined): Promise<string> {
  if (file === undefined) throw usage('--token-file FILE is needed, or - for standard input');
  let text = '';
  try {
    if (file === '-') for await (const chunk of stdin) text += String(chunk);
    else text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    throw usage(`--token-file: ${(error as Error).message}`);
  }
  try {
    parseToken(text.trim());
  } catch {
    throw usage('--token-file: holds no token; "tidemark mover enrol" on the server prints one');
  }
  return text.trim();
}

/** host or host:port, IPv6 in brackets where a port follows. */
function withPort(given: string, port: number, field: string): string {
  const bare = given.includes(':') && !given.startsWith('[') && given.indexOf(':') !== given.lastIndexOf(':');
  const whole = bare ? `[${given}]:${port}` : /(^[^:]+|\])$/.test(given) ? `${given}:${port}` : given;
  if (!/^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/.test(whole)) throw usage(`${field}: host or host:port, IPv6 in brackets`);
  return whole;
}

/** Addresses by which other machines may know this one. */
function ownAddresses(): string[] {
  return Object.values(os.networkInterfaces())
    .flatMap((all) => all ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80'))
    .map(({ address }) => address);
}

/** The packaged unit as it is; else one of our own, with this configuration and, where no package put the program in place, the program that runs now. */
async function installUnit(config: string, tokenFile: string, dataFolder: string): Promise<void> {
  const source = fs.readFileSync(path.join(packageRoot, 'scripts', 'systemd', unit), 'utf8');
  const packaged = '/usr/bin/tidemark';
  const program = fs.existsSync(packaged) ? packaged : path.join(packageRoot, 'scripts', 'tidemark');
  const text = source.replace(packagedConfig, config).replace(packaged, program);
  const sysusers = path.join(packageRoot, 'scripts', 'systemd', 'tidemark.sysusers');
  try {
    await run('systemd-sysusers', [sysusers]);
    // The mover runs as the user tidemark: it reads the configuration, and the token is its own.
    fs.mkdirSync(dataFolder, { recursive: true, mode: 0o700 });
    await run('chown', ['tidemark:tidemark', tokenFile, dataFolder]);
    fs.chmodSync(path.dirname(config), 0o755);
    if (config !== packagedConfig || !fs.existsSync(packagedUnit)) durableWrite(path.join(unitFolder, unit), text, 0o644);
    await run('systemctl', ['daemon-reload']);
    await run('systemctl', ['enable', unit]);
    await run('systemctl', ['restart', unit]);
  } catch (error) {
    const why = ((error as { stderr?: string }).stderr ?? '') || (error as Error).message;
    throw new CliFailure(
      ExitCode.failed,
      'UNIT_NOT_INSTALLED',
      `${unit} could not be installed or started: ${why.trim()}. The configuration is in ${config}; mend it and run the command again.`,
    );
  }
}
