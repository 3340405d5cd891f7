/**
 * `tidemark plugin`: everything that knows the word oVirt. The only file of this process that looks at arguments, environment and signals.
 */
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { loadConfig } from '../common/config/load-config';
import { CommonErrors, toTidemarkError } from '../common/errors/common-errors';
import { processInfo } from '../common/lifecycle/process-info';
import { runRole } from '../common/lifecycle/run-role';
import { composePlugin, pluginCapabilities, pluginId, pluginLogger, pluginProtocols } from './composition';
import { pluginConfigSchema } from './config';
import type { PluginConfig } from './config';
import { obtainIdentity } from './host/enrolment';

const usage = `usage: tidemark plugin [--config FILE] [--end-with-parent]

Runs the oVirt plug-in in the foreground. Configuration: a JSON file and TIDEMARK_… variables, for example
  TIDEMARK_DATA_FOLDER=/var/lib/tidemark-plugin
  TIDEMARK_HOST__ENDPOINT=backup.example.com:8444
  TIDEMARK_HOST__ENROLMENT_ENDPOINT=backup.example.com:8449
  TIDEMARK_HOST__ENROLMENT_TOKEN_FILE=/etc/tidemark/plugin-token   (until enrolled; made by "tidemark plugin enrol")
`;

/** Runs until told to stop; resolves with the exit code: 0 stopped, 1 failed, 2 usage. `argv` without program and role. */
export async function main(argv: readonly string[]): Promise<number> {
  let options: { config?: string; 'end-with-parent'?: boolean; help?: boolean };
  try {
    options = parseArgs({
      args: [...argv],
      options: { config: { type: 'string' }, 'end-with-parent': { type: 'boolean' }, help: { type: 'boolean' } },
    }).values;
  } catch (error) {
    process.stderr.write(`tidemark plugin: ${(error as Error).message}\n${usage}`);
    return 2;
  }
  if (options.help === true) {
    process.stdout.write(usage);
    return 0;
  }
  const endWithParent = options['end-with-parent'] === true;
  // A supervised child must not outlive its server while it still waits for it to answer.
  const leave = () => process.exit(0);
  if (endWithParent) process.stdin.once('end', leave).resume();
  try {
    const { TIDEMARK_HOST__ENROLMENT_TOKEN_FILE: enrolmentTokenFile, ...environment } = relevant(process.env);
    const config = loadConfig(pluginConfigSchema, {
      file: options.config,
      environment,
      // Not read by the loader: the file may be gone once the plug-in is enrolled.
      overrides: enrolmentTokenFile === undefined ? {} : { host: { enrolmentTokenFile } },
    });
    const logger = pluginLogger(config);
    const info = processInfo(config.dataFolder, pluginProtocols, pluginCapabilities);
    const identity = await obtainIdentity({ ...enrolmentOf(config), process: info, addresses: config.addresses }, logger);
    const plugin = composePlugin(config, logger, info, identity);
    process.stdin.off('end', leave);
    return await runRole({
      role: 'plugin',
      logger,
      services: plugin.services,
      endWithParent,
      ready: () => ({ pluginId, instanceId: info.instanceId, ...plugin.endpoints() }),
    });
  } catch (thrown) {
    const error = toTidemarkError(thrown, 'starting the plug-in');
    process.stderr.write(`tidemark plugin: ${error.code}: ${error.message}\n`);
    return 1;
  }
}

function enrolmentOf({ dataFolder, host }: PluginConfig) {
  return {
    dataFolder,
    enrolmentEndpoint: host.enrolmentEndpoint,
    patienceMs: host.enrolmentPatienceMs,
    token: () => host.enrolmentToken ?? (host.enrolmentTokenFile === undefined ? undefined : readToken(host.enrolmentTokenFile)),
  };
}

function readToken(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw CommonErrors.CONFIGURATION_INVALID({ problems: `- host.enrolmentTokenFile: ${file} cannot be read` }, { cause: error });
  }
}

/** Variables of other roles on the same machine must not count as mistakes of this one. */
function relevant(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const names = /^TIDEMARK_(DATA_FOLDER|DISPLAY_NAME|LISTEN__|ADDRESSES|ADVERTISE__|HOST__|INVENTORY__|LOG_)/;
  return Object.fromEntries(Object.entries(environment).filter(([name]) => names.test(name)));
}

if (require.main === module) {
  void main(process.argv.slice(2)).then((code) => {
    process.exitCode = code;
    // Sockets of engines that do not answer may linger; everything that matters is stopped by now.
    setTimeout(() => process.exit(code), 2_000).unref();
  });
}
