import type { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { serve } from '../../common/rpc/serve';
import type { CallContext, ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { PreflightRequest__Output } from '../../proto/gen/tidemark/plugin/v1/PreflightRequest';
import type { PreflightResponse } from '../../proto/gen/tidemark/plugin/v1/PreflightResponse';
import type { ProtectionServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/ProtectionService';
import type { WatchOperationResponse } from '../../proto/gen/tidemark/plugin/v1/WatchOperationResponse';
import type { Protection } from '../protection/protection';
import { backupRequestFromWire, dataPath, eventToWire, fingerprintOf, restoreRequestFromWire, summaryToWire } from './protection-mapping';

/** The contract promises a message each 10 s. */
const keepAliveMs = 5_000;

export type PreflightHandler = (request: PreflightRequest__Output, context: CallContext) => Promise<PreflightResponse>;

/** plugin.v1 ProtectionService, called by the host. */
export function serveProtection(server: Server, protection: Protection, preflight: PreflightHandler, options: ServeOptions): void {
  serve<ProtectionServiceDefinition>(
    server,
    loadService('tidemark/plugin/v1/protection_service.proto', 'tidemark.plugin.v1.ProtectionService').service,
    {
      Preflight: { roles: ['host'], unary: preflight },
      StartBackup: {
        roles: ['host'],
        unary: async (request) => {
          await protection.startBackup(backupRequestFromWire(request), fingerprintOf(request));
          return {};
        },
      },
      ConcludeBackup: {
        roles: ['host'],
        unary: async ({ operationId, committed }) => {
          protection.conclude(operationId, committed);
          return {};
        },
      },
      StartRestore: {
        roles: ['host'],
        unary: async (request) => {
          await protection.startRestore(restoreRequestFromWire(request), fingerprintOf(request));
          return {};
        },
      },
      WatchOperation: {
        roles: ['host'],
        serverStream: ({ operationId, afterSequence }, context) => watch(protection, operationId, afterSequence, context.signal),
      },
      CancelOperation: {
        roles: ['host'],
        unary: async ({ operationId }) => {
          protection.cancel(operationId);
          return {};
        },
      },
      ChangeDataPath: {
        roles: ['host'],
        unary: async (request) => {
          protection.changeDataPath(request.operationId, dataPath(request.dataPath));
          return {};
        },
      },
      ListOperations: { roles: ['host'], unary: async () => ({ operations: protection.list().map(summaryToWire) }) },
    },
    options,
  );
}

async function* watch(
  protection: Protection,
  operationId: string,
  afterSequence: string,
  signal: AbortSignal,
): AsyncGenerator<WatchOperationResponse> {
  const after = Number(afterSequence);
  if (!Number.isSafeInteger(after) || after < 0)
    throw CommonErrors.ARGUMENT_INVALID({ field: 'after_sequence', problem: 'is not a sequence' });
  for await (const event of protection.watch(operationId, after, keepAliveMs, signal)) yield eventToWire(event);
}
