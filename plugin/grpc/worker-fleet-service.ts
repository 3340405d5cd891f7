import type { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { timestampToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import type { ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { WorkerFleetServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/WorkerFleetService';
import type { ConnectedFleet } from '../workers/connected-fleet';

/** plugin.v1 WorkerFleetService, called by the host. */
export function serveWorkerFleet(server: Server, fleet: ConnectedFleet, options: ServeOptions): void {
  serve<WorkerFleetServiceDefinition>(
    server,
    loadService('tidemark/plugin/v1/worker_fleet_service.proto', 'tidemark.plugin.v1.WorkerFleetService').service,
    {
      ListWorkers: {
        roles: ['host'],
        unary: async () => ({
          workers: fleet.list().map((worker) => ({
            workerId: worker.workerId,
            hostName: worker.hostName,
            version: worker.version,
            clusterId: worker.clusterId,
            state: worker.state,
            taskSlots: worker.taskSlots,
            runningTasks: worker.runningTasks,
            residentMemoryBytes: String(worker.residentMemoryBytes),
            lastSeenAt: timestampToWire(new Date(worker.lastSeenAt)),
          })),
        }),
      },
      DrainWorker: {
        roles: ['host'],
        unary: async ({ workerId }) => {
          fleet.drain(workerId);
          return {};
        },
      },
      ResumeWorker: {
        roles: ['host'],
        unary: async ({ workerId }) => {
          fleet.resume(workerId);
          return {};
        },
      },
      ListOrphanWorkers: { roles: ['host'], unary: () => missing('worker VMs') },
      StartWorkerOperation: { roles: ['host'], unary: () => missing('worker VMs') },
      GetFleetPolicy: { roles: ['host'], unary: () => missing('worker VMs') },
      PutFleetPolicy: { roles: ['host'], unary: () => missing('worker VMs') },
      PrepareWorkers: { roles: ['host'], unary: () => missing('worker VMs') },
      GetWorkerImage: { roles: ['host'], unary: () => missing('worker VMs') },
    },
    options,
  );
}

function missing(needed: string): never {
  throw CommonErrors.CAPABILITY_MISSING({ needed, offered: 'nothing' });
}
