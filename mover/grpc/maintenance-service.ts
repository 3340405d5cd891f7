/** tidemark.mover.v1.MaintenanceService; the contract with its conditions is in the .proto file. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { bytesFromWire, durationFromWire, timestampToWire } from '../../common/rpc/bytes';
import { failureMessage } from '../../common/rpc/failure-message';
import { serve, type ServeOptions } from '../../common/rpc/serve';
import type { CollectResult } from '../../proto/gen/tidemark/mover/v1/CollectResult';
import type { MaintenanceServiceDefinition } from '../../proto/gen/tidemark/mover/v1/MaintenanceService';
import type { RemovedPoint } from '../../proto/gen/tidemark/mover/v1/RemovedPoint';
import type { StartCollectRequest__Output } from '../../proto/gen/tidemark/mover/v1/StartCollectRequest';
import { loadService } from '../../proto/loader';
import { RepositoryErrors } from '../errors/mover-errors';
import type { CollectRequest } from '../maintenance/collect/collection';
import { collectSummary } from '../maintenance/collect/summary';
import type { CollectOperation, Maintenance } from '../maintenance/maintenance';
import type { AttachedRepositories } from '../repository/served/attached-repositories';
import type { Repository } from '../repository/repository';
import { isUuid } from './identifiers';
import { pointToWire } from './point-message';

const definition = loadService('tidemark/mover/v1/maintenance_service.proto', 'tidemark.mover.v1.MaintenanceService').service;
const roles = ['host'] as const;
const progressIntervalMs = 1_000;
const leastGraceMs = 60_000;

const steps = {
  deleting: 'COLLECT_STEP_DELETING',
  marking: 'COLLECT_STEP_MARKING',
  repacking: 'COLLECT_STEP_REPACKING',
  condemning: 'COLLECT_STEP_CONDEMNING',
} as const;

export function serveMaintenance(
  server: Server,
  repositories: AttachedRepositories,
  maintenance: Maintenance,
  options: ServeOptions,
): void {
  serve<MaintenanceServiceDefinition>(
    server,
    definition,
    {
      RemovePoint: {
        roles,
        unary: async (request) => {
          const removedAt = await maintenance.removePoint(repositories.get(request.repositoryId), pointIdOf(request));
          return { removedAt: timestampToWire(removedAt) };
        },
      },
      UndoRemovePoint: {
        roles,
        unary: async (request) => ({
          point: pointToWire(await maintenance.undoRemovePoint(repositories.get(request.repositoryId), pointIdOf(request))),
        }),
      },
      StartCollect: {
        roles,
        unary: async (request) => {
          const repository = repositories.get(request.repositoryId);
          return { operationId: maintenance.startCollect(request.requestId, repository, collectFromWire(request)).operationId };
        },
      },
      WatchCollect: {
        roles,
        serverStream: async function* (request, { signal }) {
          const operation = maintenance.get(request.operationId);
          while (!operation.ended && !signal.aborted) {
            yield { progress: progressOf(operation) };
            await Promise.race([operation.done, sleep(progressIntervalMs, undefined, { signal }).catch(() => undefined)]);
          }
          if (operation.ended) yield { result: resultOf(operation) };
        },
      },
      CancelCollect: {
        roles,
        unary: async (request) => {
          maintenance.cancel(request.operationId);
          return {};
        },
      },
      UndoCollect: {
        roles,
        unary: async (request) => {
          const { packs, bytes } = await maintenance.undoCollect(repositories.get(request.repositoryId));
          return { restoredPacks: packs, restoredBytes: bytes };
        },
      },
    },
    options,
  );
}

/** Removed points of one VM or (empty) of all that are not deleted yet; one that is damaged or being deleted is left out. */
export async function* listRemovedPoints(repository: Repository, vmId: string): AsyncGenerator<RemovedPoint> {
  const { points } = repository;
  const { deletedAfter } = await collectSummary(repository);
  for (const pointId of points.removedIds()) {
    try {
      const point = await points.readRemoved(pointId);
      if (vmId !== '' && point.vmId !== vmId) continue;
      const removedAt = await points.tombstones.removedAt(pointId);
      const after = deletedAfter.get(pointId);
      yield {
        point: pointToWire(point),
        ...(removedAt && { removedAt: timestampToWire(removedAt) }),
        ...(after && { deletedAfter: timestampToWire(after) }),
      };
    } catch (error) {
      if (!isTidemarkError(error) || error.code === 'REPOSITORY_IO') throw error;
    }
  }
}

function pointIdOf({ pointId }: { readonly pointId: string }): string {
  if (!isUuid(pointId)) throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
  return pointId;
}

function collectFromWire({ dryRun, bytesPerSecond, grace }: StartCollectRequest__Output): CollectRequest {
  const graceMs = durationFromWire(grace);
  if (graceMs !== undefined && graceMs < leastGraceMs)
    throw CommonErrors.ARGUMENT_INVALID({ field: 'grace', problem: 'it is less than a minute' });
  return { dryRun, bytesPerSecond: bytesFromWire(bytesPerSecond, 'bytes_per_second'), ...(graceMs === undefined ? {} : { graceMs }) };
}

function progressOf({ work: { progress } }: CollectOperation) {
  return { step: steps[progress.step], done: progress.done, total: progress.total };
}

function resultOf({ work, cancelled, failure }: CollectOperation): CollectResult {
  const { deletedAfter, ...totals } = work.progress.totals;
  return {
    ...totals,
    cancelled,
    ...(deletedAfter && { deletedAfter: timestampToWire(deletedAfter) }),
    ...(failure ? { failure: failureMessage(failure) } : {}),
  };
}
