import { setTimeout as sleep } from 'node:timers/promises';
import type { Server } from '@grpc/grpc-js';
import { serve, type ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { HealthDefinition } from '../../proto/gen/grpc/health/v1/Health';

const definition = loadService('grpc/health/v1/health.proto', 'grpc.health.v1.Health').service;
const repeatMs = 10_000;
const roles = ['host'] as const;

/** grpc.health.v1: alive and ready are the same here, since the ports open last. */
export function serveHealth(server: Server, options: ServeOptions): void {
  serve<HealthDefinition>(
    server,
    definition,
    {
      Check: { roles, unary: async () => ({ status: 'SERVING' as const }) },
      Watch: {
        roles,
        serverStream: async function* (_request, { signal }) {
          while (!signal.aborted) {
            yield { status: 'SERVING' as const };
            await sleep(repeatMs, undefined, { signal }).catch(() => undefined);
          }
        },
      },
    },
    options,
  );
}
