/** Verification on the wire: the methods of RepositoryService that are about it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CommonErrors } from '../../common/errors/common-errors';
import { bytesFromWire, durationFromWire } from '../../common/rpc/bytes';
import { failureMessage } from '../../common/rpc/failure-message';
import type { ServiceHandlers } from '../../common/rpc/serve';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import type { StartVerifyRequest__Output } from '../../proto/gen/tidemark/mover/v1/StartVerifyRequest';
import { RepositoryErrors } from '../errors/mover-errors';
import type { VerifyOperation, VerifyOperations, VerifyPace } from '../maintenance/verify-operations';
import type { AttachedRepositories } from '../repository/served/attached-repositories';
import { isUuid } from './identifiers';

const roles = ['host'] as const;
const progressIntervalMs = 1_000;

type VerifyMethods = 'StartVerify' | 'WatchVerify' | 'CancelVerify';

export function verifyHandlers(
  repositories: AttachedRepositories,
  verifications: VerifyOperations,
): Pick<ServiceHandlers<RepositoryServiceDefinition>, VerifyMethods> {
  return {
    StartVerify: {
      roles,
      unary: async (request) => {
        const repository = repositories.get(request.repositoryId);
        const pointId = request.pointId === '' ? undefined : request.pointId;
        if (pointId !== undefined && !(isUuid(pointId) && repository.points.has(pointId)))
          throw RepositoryErrors.POINT_NOT_FOUND({ pointId });
        return { operationId: verifications.start(request.requestId, repository, pointId, paceOf(request)).operationId };
      },
    },
    WatchVerify: {
      roles,
      serverStream: async function* (request, { signal }) {
        const operation = verifications.get(request.operationId);
        while (!operation.ended && !signal.aborted) {
          yield { progress: progressOf(operation) };
          await Promise.race([operation.done, sleep(progressIntervalMs, undefined, { signal }).catch(() => undefined)]);
        }
        if (operation.ended) yield { result: resultOf(operation) };
      },
    },
    CancelVerify: {
      roles,
      unary: async (request) => {
        verifications.cancel(request.operationId);
        return {};
      },
    },
  };
}

function paceOf(request: StartVerifyRequest__Output): VerifyPace {
  const bytesPerSecond = bytesFromWire(request.bytesPerSecond, 'bytes_per_second');
  const periodMs = durationFromWire(request.period) ?? 0;
  if (periodMs < 0) throw CommonErrors.ARGUMENT_INVALID({ field: 'period', problem: 'it is negative' });
  return { bytesPerSecond, periodMs };
}

function progressOf({ work: { verifier } }: VerifyOperation) {
  const { checkedBlocks, totalBlocks, checkedBytes, checkedPacks, totalPacks } = verifier.progress;
  return { checkedBlocks, totalBlocks, checkedBytes, checkedPacks, totalPacks };
}

function resultOf({ work: { verifier }, cancelled, failure }: VerifyOperation) {
  const { checkedBlocks, checkedBytes, checkedPoints, checkedPacks, skippedPacks, quarantinedBlocks, healedBlocks } = verifier.progress;
  return {
    checkedBlocks,
    checkedBytes,
    checkedPoints,
    checkedPacks,
    skippedPacks,
    quarantinedBlocks,
    healedBlocks,
    findings: verifier.findings.map((finding) => ({ ...finding })),
    findingCount: verifier.findingCount,
    cancelled,
    ...(failure ? { failure: failureMessage(failure) } : {}),
  };
}
