/**
 * `tidemark plugin`: everything that knows the word oVirt.
 */
import { processInfo } from '../common/lifecycle/process-info';
import { roleMain, runAsProgram } from '../common/lifecycle/role-main';
import { enrolAtHost } from '../common/tls/enrol-at-host';
import { composePlugin, pluginCapabilities, pluginId, pluginLogger, pluginProtocols } from './composition';
import { pluginConfigSchema } from './config';

const usage = `usage: tidemark plugin [--config FILE] [--end-with-parent]

Runs the oVirt plug-in in the foreground. Configuration: a JSON file and TIDEMARK_… variables, for example
  TIDEMARK_DATA_FOLDER=/var/lib/tidemark-plugin
  TIDEMARK_HOST__ENDPOINT=backup.example.com:8444
  TIDEMARK_HOST__ENROLMENT_ENDPOINT=backup.example.com:8449
  TIDEMARK_HOST__ENROLMENT_TOKEN_FILE=/etc/tidemark/plugin-token   (until enrolled; made by "tidemark plugin enrol")
`;

/** Runs until told to stop; resolves with the exit code: 0 stopped, 1 failed, 2 usage. `argv` without program and role. */
export function main(argv: readonly string[]): Promise<number> {
  return roleMain(argv, {
    role: 'plugin',
    usage,
    schema: pluginConfigSchema,
    environment: /^TIDEMARK_(DATA_FOLDER|DISPLAY_NAME|LISTEN__|ADDRESSES|ADVERTISE__|HOST__|INVENTORY__|WORKER_IMAGE__|WORKER_VMS__|LOG_)/,
    enrolmentSection: 'host',
    compose: async (config) => {
      const logger = pluginLogger(config);
      const info = processInfo(config.dataFolder, pluginProtocols, pluginCapabilities);
      const { dataFolder, addresses, host: settings } = config;
      const identity = await enrolAtHost({ dataFolder, settings, process: info, addresses, logger });
      const plugin = composePlugin(config, logger, info, identity);
      return { logger, services: plugin.services, ready: () => ({ pluginId, instanceId: info.instanceId, ...plugin.endpoints() }) };
    },
  });
}

if (require.main === module) runAsProgram(main);
