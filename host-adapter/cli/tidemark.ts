/**
 * The one program, `tidemark`. Roles run in the foreground; the offline reader is the mover's; everything else is a noun and a verb over
 * the public REST API. Roles are found by path, so that this file imports no other process.
 */
import path from 'node:path';
import { leaveWith } from '../../common/lifecycle/leave';
import { runCli } from './cli';

interface Program {
  main(argv: string[]): Promise<number>;
}

const compiled = path.resolve(__dirname, '..', '..');
const roles: Readonly<Record<string, string>> = {
  server: 'host-adapter/main.js',
  plugin: 'plugin/main.js',
  worker: 'worker/main.js',
  mover: 'mover/main.js',
};

/** True when the words ask for a role to be run, not for a command about it (`plugin list`). */
function isRole(argv: readonly string[]): boolean {
  const [noun, next] = argv;
  return noun !== undefined && noun in roles && (next === undefined || next.startsWith('-'));
}

function asksForHelp(argv: readonly string[]): boolean {
  return argv.length === 2 && (argv[1] === '--help' || argv[1] === '-h');
}

/** `plugin --help`: the commands about it and the role itself. There are no commands about the server. */
async function helpOn(noun: string): Promise<number> {
  if (noun !== 'server') {
    await runCli([noun, '--help'], process);
    process.stdout.write('\nWithout a command it is the role itself:\n\n');
  }
  return load(roles[noun] ?? '').main(['--help']);
}

function isOffline(argv: readonly string[]): boolean {
  return argv[0] === 'document' || (argv[0] === 'point' && (argv[1] === 'read' || argv.includes('--offline')));
}

function load(relative: string): Program {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- another process's entry, found by path on purpose
  return require(path.join(compiled, relative)) as Program;
}

/** Needs no server either: it makes one. */
function isRestoredConfiguration(argv: readonly string[]): boolean {
  return argv[0] === 'config' && argv[1] === 'restore';
}

async function main(argv: string[]): Promise<number> {
  if (isRole(argv) && asksForHelp(argv)) return helpOn(argv[0] ?? '');
  if (isRole(argv)) return load(roles[argv[0] ?? ''] ?? '').main(argv.slice(1));
  if (isOffline(argv)) return load('mover/offline/main.js').main(argv.filter((word) => word !== '--offline'));
  if (isRestoredConfiguration(argv)) return load('host-adapter/configuration/main.js').main(argv.slice(2));
  return runCli(argv, process);
}

// Whoever reads our output may stop early (`| head`); that is no failure of the command.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
});
void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
  // Handles that keep the loop alive (a stream of a dead server) must not keep a finished command from ending.
  setTimeout(() => leaveWith(code), 500).unref();
});
