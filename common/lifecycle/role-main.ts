import { parseArgs } from 'node:util';
import type { z } from 'zod';
import { loadConfig } from '../config/load-config';
import { toTidemarkError } from '../errors/common-errors';
import type { Logger } from '../log/logger';
import { redactText } from '../log/redact';
import { runRole } from './run-role';
import { leaveWith } from './leave';
import { becomeSoleProcess } from './sole-process';
import type { Service } from './lifecycle';

/** Every role keeps its data in a folder of its own. */
type RoleSchema = z.ZodType<{ readonly dataFolder: string }>;

/** What is special about one role. */
export interface RoleProgram<T extends RoleSchema> {
  /** plugin, mover, worker. */
  readonly role: string;
  readonly usage: string;
  readonly schema: T;
  /** Variables below TIDEMARK_ that are this role's; others on the same machine must not count as mistakes. */
  readonly environment: RegExp;
  /** Settings that name a file which may be gone once it was read (`TIDEMARK_HOST__ENROLMENT_TOKEN_FILE`): section of the configuration. */
  readonly enrolmentSection: string;
  /** Enrols if need be and wires everything; the services are started in order. */
  compose(config: Readonly<z.infer<T>>): Promise<{ logger: Logger; services: readonly Service[]; ready(): object }>;
}

/**
 * The main program of a role: arguments, configuration, then running until told to stop. Resolves with the exit code: 0 stopped, 1 failed, 2 usage.
 * The only place of these processes that looks at arguments, environment and signals.
 */
export async function roleMain<T extends RoleSchema>(argv: readonly string[], program: RoleProgram<T>): Promise<number> {
  let options: { config?: string; 'end-with-parent'?: boolean; help?: boolean };
  try {
    options = parseArgs({
      args: [...argv],
      options: { config: { type: 'string' }, 'end-with-parent': { type: 'boolean' }, help: { type: 'boolean' } },
    }).values;
  } catch (error) {
    process.stderr.write(`tidemark ${program.role}: ${(error as Error).message}\n${program.usage}`);
    return 2;
  }
  if (options.help === true) {
    process.stdout.write(program.usage);
    return 0;
  }
  const endWithParent = options['end-with-parent'] === true;
  // A supervised child must not outlive its server while it still waits to be enrolled.
  const leave = () => process.exit(0);
  if (endWithParent) process.stdin.once('end', leave).resume();
  try {
    const tokenFileName = `TIDEMARK_${program.enrolmentSection.toUpperCase()}__ENROLMENT_TOKEN_FILE`;
    const { [tokenFileName]: enrolmentTokenFile, ...environment } = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => program.environment.test(name)),
    );
    const config = loadConfig(program.schema, {
      file: options.config,
      environment,
      // Not read by the loader: the file may be gone once the process is enrolled.
      overrides: enrolmentTokenFile === undefined ? {} : { [program.enrolmentSection]: { enrolmentTokenFile } },
    });
    await becomeSoleProcess(config.dataFolder, { waiting: () => tellWaiting(program.role) });
    const composed = await program.compose(config);
    process.stdin.off('end', leave);
    return await runRole({ role: program.role, ...composed, endWithParent, ready: () => composed.ready() });
  } catch (thrown) {
    const error = toTidemarkError(thrown, `starting the ${program.role}`);
    process.stderr.write(`tidemark ${program.role}: ${error.code}: ${error.message}\n`);
    // There is no log yet that would tell what it was.
    if (error.kind === 'bug' && error.cause instanceof Error)
      process.stderr.write(`${redactText(error.cause.stack ?? error.cause.message)}\n`);
    return 1;
  }
}

/** For whoever starts a process by hand and wonders. */
export function tellWaiting(role: string): void {
  process.stderr.write(`tidemark ${role}: waits for the process before this one, which still has the data folder\n`);
}

/** Runs a role as this program: its exit code becomes the process's. Sockets that linger do not keep it alive. */
export function runAsProgram(main: (argv: readonly string[]) => Promise<number>): void {
  void main(process.argv.slice(2)).then((code) => {
    process.exitCode = code;
    setTimeout(() => leaveWith(code), 2_000).unref();
  });
}
