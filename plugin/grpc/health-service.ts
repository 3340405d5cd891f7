import type { Server } from '@grpc/grpc-js';
import { serve } from '../../common/rpc/serve';
import type { ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { HealthDefinition } from '../../proto/gen/grpc/health/v1/Health';

const definition = loadService('grpc/health/v1/health.proto', 'grpc.health.v1.Health').service;
const repeatMs = 10_000;
const roles = ['host', 'worker'] as const;

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
            await new Promise<void>((resolve) => {
              const timer = setTimeout(resolve, repeatMs);
              signal.addEventListener(
                'abort',
                () => {
                  clearTimeout(timer);
                  resolve();
                },
                { once: true },
              );
            });
          }
        },
      },
    },
    options,
  );
}
