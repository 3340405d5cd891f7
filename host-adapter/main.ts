/**
 * `tidemark server`: jobs, sessions, catalogue, repositories, identity and the REST API; with --all-in-one also plug-in, mover and worker
 * as children.
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { loadConfig } from '../common/config/load-config';
import { toTidemarkError } from '../common/errors/common-errors';
import { redactText } from '../common/log/redact';
import { runAsProgram, tellWaiting } from '../common/lifecycle/role-main';
import { runRole } from '../common/lifecycle/run-role';
import { becomeSoleProcess } from '../common/lifecycle/sole-process';
import { composeServer } from './composition/composition';
import { serverConfigSchema } from './config';

const usage = `usage: tidemark server [--all-in-one] [--config FILE] [--data-dir DIR] [--listen ADDRESS[:PORT]] [--end-with-parent]

Runs the backup server in the foreground. With --all-in-one a plug-in, a mover and a worker run beside it.
At the first start it makes its CA (DIR/ca.pem) and the user "admin" (password in DIR/initial-admin-password).
Configuration: a JSON file, TIDEMARK_… variables (TIDEMARK_DATA_FOLDER, TIDEMARK_LISTEN__PORT, TIDEMARK_ALL_IN_ONE …), then these options.

Example:
  tidemark server --all-in-one --data-dir /var/lib/tidemark
`;
const environmentNames = /^TIDEMARK_(DATA_FOLDER|LISTEN__|ADDRESSES|ALL_IN_ONE|CHILDREN__|LOG_)/;

interface Arguments {
  readonly config?: string;
  readonly 'data-dir'?: string;
  readonly listen?: string;
  readonly 'all-in-one'?: boolean;
  readonly 'end-with-parent'?: boolean;
  readonly help?: boolean;
}

/** Runs until told to stop; resolves with the exit code: 0 stopped, 1 failed, 2 usage. `argv` without program and role. */
export async function main(argv: readonly string[]): Promise<number> {
  let options: Arguments;
  try {
    options = parseArgs({
      args: [...argv],
      options: {
        config: { type: 'string' },
        'data-dir': { type: 'string' },
        listen: { type: 'string' },
        'all-in-one': { type: 'boolean' },
        'end-with-parent': { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    process.stderr.write(`tidemark server: ${(error as Error).message}\n${usage}`);
    return 2;
  }
  if (options.help === true) {
    process.stdout.write(usage);
    return 0;
  }
  try {
    const config = loadConfig(serverConfigSchema, {
      file: options.config,
      environment: Object.fromEntries(Object.entries(process.env).filter(([name]) => environmentNames.test(name))),
      overrides: overridesOf(options),
    });
    await becomeSoleProcess(config.dataFolder, { waiting: () => tellWaiting('server') });
    const server = await composeServer({ ...config, dataFolder: path.resolve(config.dataFolder) });
    return await runRole({
      role: 'server',
      logger: server.logger,
      services: server.services,
      endWithParent: options['end-with-parent'] === true,
      ready: () => ({ ...server.endpoints(), dataFolder: path.resolve(config.dataFolder) }),
    });
  } catch (thrown) {
    const error = toTidemarkError(thrown, 'starting the server');
    process.stderr.write(`tidemark server: ${error.code}: ${redactText(error.message)}\n`);
    return 1;
  }
}

function overridesOf(options: Arguments): Record<string, unknown> {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+))?(?::(\d+))?$/.exec(options.listen ?? '') ?? [];
  const address = bracketed ?? plain ?? (port === undefined ? options.listen : undefined);
  return {
    ...(options['data-dir'] === undefined ? {} : { dataFolder: options['data-dir'] }),
    ...(options['all-in-one'] === true ? { allInOne: true } : {}),
    listen: { ...(address === undefined ? {} : { address }), ...(port === undefined ? {} : { port: Number(port) }) },
  };
}

if (require.main === module) runAsProgram(main);
