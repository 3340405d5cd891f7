import type { Server } from '@grpc/grpc-js';
import { timestampFromWire, timestampToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import type { ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { WorkerFleetServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/WorkerFleetService';
import type { WorkerVms } from '../worker-vms/worker-vms';
import { policyFromWire, policyToWire, workerOperationFromWire, workerToWire } from './worker-fleet-mapping';

/** plugin.v1 WorkerFleetService, called by the host. */
export function serveWorkerFleet(server: Server, workers: WorkerVms, options: ServeOptions): void {
  serve<WorkerFleetServiceDefinition>(
    server,
    loadService('tidemark/plugin/v1/worker_fleet_service.proto', 'tidemark.plugin.v1.WorkerFleetService').service,
    {
      ListWorkers: { roles: ['host'], unary: async () => ({ workers: workers.list().map(workerToWire) }) },
      ListOrphanWorkers: {
        roles: ['host'],
        unary: async (_request, { signal }) => ({
          orphans: (await workers.orphans(signal)).map(({ createdAt, ...orphan }) => ({
            ...orphan,
            createdAt: createdAt ? timestampToWire(createdAt) : null,
          })),
        }),
      },
      StartWorkerOperation: {
        roles: ['host'],
        unary: async (request, { signal }) => {
          await workers.startOperation(workerOperationFromWire(request), signal);
          return {};
        },
      },
      DrainWorker: {
        roles: ['host'],
        unary: async ({ workerId }) => {
          await workers.drain(workerId);
          return {};
        },
      },
      ResumeWorker: {
        roles: ['host'],
        unary: async ({ workerId }) => {
          await workers.resume(workerId);
          return {};
        },
      },
      GetFleetPolicy: { roles: ['host'], unary: async ({ platformId }) => ({ policy: policyToWire(workers.policy(platformId)) }) },
      PutFleetPolicy: {
        roles: ['host'],
        unary: async ({ policy }) => {
          await workers.putPolicy(policyFromWire(policy));
          return {};
        },
      },
      PrepareWorkers: {
        roles: ['host'],
        unary: async ({ platformId, vmIds, neededAt }) => {
          workers.prepare(platformId, vmIds, timestampFromWire(neededAt)?.getTime() ?? Date.now());
          return {};
        },
      },
      GetWorkerImage: {
        roles: ['host'],
        unary: async () => {
          const { version, sha256, fileBytes, diskBytes, path } = await workers.image();
          return { version, sha256, fileBytes: String(fileBytes), diskBytes: String(diskBytes), path };
        },
      },
    },
    options,
  );
}
