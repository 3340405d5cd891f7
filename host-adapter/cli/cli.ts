/** The command line: nouns and verbs over the public REST API. Owns no rule; what it may do, anybody may do over REST. */
import { Command, CommanderError } from 'commander';
import { productVersion } from '../../common/lifecycle/process-info';
import { CliFailure, usage } from './cli-failure';
import { accessCommands } from './commands/access';
import { certificateCommands } from './commands/certificate';
import { configurationCommands } from './commands/configuration';
import { jobCommands } from './commands/job';
import { moverCommands } from './commands/mover';
import { platformCommands } from './commands/platform';
import { pointCommands } from './commands/point';
import { processCommands } from './commands/processes';
import { repositoryCommands } from './commands/repository';
import { restoreCommands } from './commands/restore';
import { sessionCommands } from './commands/session';
import { supportCommands } from './commands/support';
import { vmCommands } from './commands/vm';
import { workerCommands } from './commands/worker';
import { CommandHost } from './context';
import type { CliProcess } from './context';
import { ExitCode } from './exit-code';
import { Output } from './output';

/** Runs one command line to its exit code; never throws. */
export async function runCli(argv: readonly string[], process: CliProcess): Promise<number> {
  const host = new CommandHost(process);
  const program = new Command('tidemark')
    .description('Backup and restore of virtual machines on oVirt, RHV and OLVM')
    .version(productVersion())
    .exitOverride()
    .configureOutput({ writeOut: (text) => process.stdout.write(text), writeErr: (text) => process.stderr.write(text) })
    .addHelpText(
      'after',
      '\nRoles, in the foreground: tidemark server [--all-in-one] | plugin | worker | mover\nWithout any server: tidemark point read --repository DIR --point P --disk D --out FILE\nA new server from a repository: tidemark config restore --help',
    );
  for (const register of [
    accessCommands,
    processCommands,
    moverCommands,
    workerCommands,
    platformCommands,
    vmCommands,
    repositoryCommands,
    jobCommands,
    sessionCommands,
    pointCommands,
    restoreCommands,
    certificateCommands,
    configurationCommands,
    supportCommands,
  ]) {
    register(program, host);
  }
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return host.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return ExitCode.success;
      // Commander has told people already; no action saw the options, so `--json` is looked for here.
      if (argv.includes('--json')) new Output(true, process.stdout, process.stderr).failure(usage(error.message.replace(/^error: /, '')));
      return ExitCode.usage;
    }
    const output = new Output(host.json, process.stdout, process.stderr);
    if (error instanceof CliFailure) {
      output.failure(error);
      return error.exitCode;
    }
    output.failure(new CliFailure(ExitCode.failed, 'INTERNAL', error instanceof Error ? error.message : String(error)));
    return ExitCode.failed;
  }
}
