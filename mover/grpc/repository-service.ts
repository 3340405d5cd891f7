import type { Server } from '@grpc/grpc-js';
import { Secret } from '../../common/log/redact';
import { timestampToWire } from '../../common/rpc/bytes';
import { serve, type ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { Repository as RepositoryMessage } from '../../proto/gen/tidemark/mover/v1/Repository';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import type { StoreAccess__Output } from '../../proto/gen/tidemark/mover/v1/StoreAccess';
import { FORMAT_VERSION } from '../format/repository-header';
import { collectSummary } from '../maintenance/collect/summary';
import type { VerifyOperations } from '../maintenance/verify-operations';
import type { AttachedRepositories } from '../repository/served/attached-repositories';
import type { Repository } from '../repository/repository';
import type { SessionManager } from '../sessions/session-manager';
import type { S3Access } from '../stores/s3/bucket';
import { listRemovedPoints } from './maintenance-service';
import { pointToWire } from './point-message';
import { changeFromWire, newSettingsFromWire, settingsToWire } from './repository-settings';
import { firstKeyFromWire, keyFromWire, keyHandlers } from './repository-keys';
import { verifyHandlers } from './verify-handlers';

const definition = loadService('tidemark/mover/v1/repository_service.proto', 'tidemark.mover.v1.RepositoryService').service;
const roles = ['host'] as const;

/** tidemark.mover.v1.RepositoryService; the contract with its conditions is in the .proto file. */
export function serveRepositories(
  server: Server,
  repositories: AttachedRepositories,
  sessions: Pick<SessionManager, 'openCount'>,
  verifications: VerifyOperations,
  options: ServeOptions,
): void {
  const describe = (repository: Repository) => repositoryToWire(repository, sessions.openCount(repository), verifications);
  serve<RepositoryServiceDefinition>(
    server,
    definition,
    {
      CreateRepository: {
        roles,
        unary: async (request) => {
          const { location, requestId, settings, access } = request;
          const key = firstKeyFromWire(request.key);
          const { fixed, change } = newSettingsFromWire(settings);
          const made = await repositories.create(location, requestId, fixed, accessFromWire(access), key, change);
          return { repository: await describe(made.repository), recoveryKey: made.recoveryKey?.reveal() ?? '' };
        },
      },
      AttachRepository: {
        roles,
        unary: async (request) => ({
          repository: await describe(
            await repositories.attach(
              request.location,
              request.expectedRepositoryId,
              accessFromWire(request.access),
              keyFromWire(request.key),
            ),
          ),
        }),
      },
      DetachRepository: {
        roles,
        unary: async (request) => {
          await repositories.detach(request.repositoryId);
          return {};
        },
      },
      GetRepository: {
        roles,
        unary: async (request) => ({ repository: await describe(repositories.get(request.repositoryId)) }),
      },
      UpdateRepository: {
        roles,
        unary: async (request) => {
          const repository = repositories.get(request.repositoryId);
          await repository.updateSettings(changeFromWire(request));
          return { repository: await describe(repository) };
        },
      },
      ListPoints: {
        roles,
        serverStream: async function* (request) {
          const repository = repositories.get(request.repositoryId);
          await repository.refresh();
          for await (const listed of repository.points.list(request.vmId)) {
            if ('damaged' in listed) yield { damaged: listed.damaged };
            else yield { point: pointToWire(listed.point) };
          }
          if (request.includeRemoved) for await (const removed of listRemovedPoints(repository, request.vmId)) yield { removed };
        },
      },
      GetPoint: {
        roles,
        unary: async (request) => {
          const { point, configuration } = await repositories.get(request.repositoryId).points.readWhole(request.pointId);
          return { point: pointToWire(point), configuration };
        },
      },
      ...verifyHandlers(repositories, verifications),
      ...keyHandlers(repositories),
    },
    options,
  );
}

function accessFromWire(access: StoreAccess__Output | null): S3Access | undefined {
  if (!access) return undefined;
  const { accessKeyId, secretAccessKey, caPem } = access;
  return { accessKeyId, secretAccessKey: new Secret(secretAccessKey), ...(caPem === '' ? {} : { caPem }) };
}

async function repositoryToWire(
  repository: Repository,
  openSessionCount: number,
  verifications: VerifyOperations,
): Promise<RepositoryMessage> {
  const verifiedSince = verifications.verifiedSince(repository);
  const { header, index, points, store } = repository;
  const { condemnedBytes, lastCollectedAt } = await collectSummary(repository);
  return {
    ...(await settingsToWire(repository)),
    repositoryId: header.repositoryId,
    location: store.location,
    formatVersion: FORMAT_VERSION,
    createdAt: timestampToWire(new Date(header.createdAt)),
    pointCount: points.count,
    storedBytes: index.packs.totalBytes,
    blockCount: index.packs.totalEntries,
    openSessionCount,
    encrypted: header.encryption !== undefined,
    quarantinedBlockCount: repository.quarantine.count().damaged,
    condemnedBytes,
    removedPointCount: points.removedIds().length,
    ...(lastCollectedAt && { lastCollectedAt: timestampToWire(lastCollectedAt) }),
    ...(verifiedSince && { verifiedSince: timestampToWire(verifiedSince) }),
  };
}
