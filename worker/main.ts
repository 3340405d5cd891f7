/**
 * `tidemark worker`: reads and writes disks for a plug-in.
 */
import { processInfo } from '../common/lifecycle/process-info';
import { roleMain, runAsProgram } from '../common/lifecycle/role-main';
import { composeWorker, workerCapabilities, workerLogger, workerProtocols } from './composition';
import { workerConfigSchema } from './config';
import { enrolWorker } from './plugin/enrolment';

const usage = `usage: tidemark worker [--config FILE] [--end-with-parent]

Runs a worker in the foreground. Configuration: a JSON file and TIDEMARK_… variables, for example
  TIDEMARK_DATA_FOLDER=/var/lib/tidemark-worker
  TIDEMARK_PLUGIN__ENDPOINT=backup.example.com:8446
  TIDEMARK_PLUGIN__ENROLMENT_ENDPOINT=backup.example.com:8448
  TIDEMARK_PLUGIN__ENROLMENT_TOKEN_FILE=/etc/tidemark/worker-token   (until enrolled; made by "tidemark worker enrol")
`;

/** Runs until told to stop; resolves with the exit code: 0 stopped, 1 failed, 2 usage. `argv` without program and role. */
export function main(argv: readonly string[]): Promise<number> {
  return roleMain(argv, {
    role: 'worker',
    usage,
    schema: workerConfigSchema,
    environment: /^TIDEMARK_(DATA_FOLDER|PLUGIN__|TASK_SLOTS|THREADS|PLATFORM_ID|CLUSTER_ID|ADDRESSES|IMAGE_VERSION|DEVICES__|LOG_)/,
    enrolmentSection: 'plugin',
    compose: async (config) => {
      const logger = workerLogger(config);
      const info = processInfo(config.dataFolder, workerProtocols, workerCapabilities);
      const identity = await enrolWorker(config, info, logger);
      const { services } = composeWorker(config, logger, info, identity);
      return { logger, services, ready: () => ({ workerId: identity.self.id }) };
    },
  });
}

if (require.main === module) runAsProgram(main);
