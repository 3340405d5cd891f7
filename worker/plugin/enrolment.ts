import type { Logger } from '../../common/log/logger';
import { RpcClient } from '../../common/rpc/call';
import { obtainIdentity } from '../../common/tls/obtain-identity';
import type { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { WorkerEnrolmentServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerEnrolmentService';
import type { WorkerConfig } from '../config';

const protoFile = 'tidemark/worker/v1/worker_service.proto';

/** The stored identity, or a new one by the one-time token. Throws what `obtainIdentity` throws. */
export function enrolWorker(config: WorkerConfig, info: ProcessInfo, logger: Logger): Promise<ProcessIdentity> {
  return obtainIdentity({
    dataFolder: config.dataFolder,
    field: 'plugin',
    settings: config.plugin,
    server: 'plugin',
    process: info,
    addresses: config.addresses,
    logger,
    apply: async (endpoint, credentials, application) => {
      const service = loadService(protoFile, 'tidemark.worker.v1.WorkerEnrolmentService').service;
      const client = new RpcClient<WorkerEnrolmentServiceDefinition>(service, endpoint, credentials);
      try {
        // Repeated with the same certificate request, so that a lost answer is fetched again.
        return (await client.call('Enrol', { application }, { deadlineMs: 20_000, attempts: 3 })).certificate;
      } finally {
        client.close();
      }
    },
  });
}
