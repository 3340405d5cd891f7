import type { Server } from '@grpc/grpc-js';
import type { HealthDefinition } from '../../proto/gen/grpc/health/v1/Health';
import { loadService } from '../../proto/loader';
import { pause } from './call';
import { serve } from './serve';
import type { AllowedRoles, ServeOptions } from './serve';

const definition = loadService('grpc/health/v1/health.proto', 'grpc.health.v1.Health').service;
const repeatMs = 10_000;

/** grpc.health.v1: alive and ready are the same, since our ports open last. */
export function serveHealth(server: Server, roles: AllowedRoles, options: ServeOptions): void {
  serve<HealthDefinition>(
    server,
    definition,
    {
      Check: { roles, unary: async () => ({ status: 'SERVING' as const }) },
      Watch: {
        roles,
        serverStream: async function* (_request, { signal }) {
          for (;;) {
            yield { status: 'SERVING' as const };
            await pause(repeatMs, signal);
          }
        },
      },
    },
    options,
  );
}
