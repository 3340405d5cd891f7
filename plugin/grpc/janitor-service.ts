import type { Server } from '@grpc/grpc-js';
import { timestampToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import type { ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { JanitorServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/JanitorService';
import type { Leftover as WireLeftover } from '../../proto/gen/tidemark/plugin/v1/Leftover';
import type { LeftoverState } from '../../proto/gen/tidemark/plugin/v1/LeftoverState';
import type { Janitor, Leftover } from '../janitor/janitor';

/** Below the contract's deadline of 120 s. */
const sweepMs = 110_000;

const states: Record<Leftover['state'], keyof typeof LeftoverState> = {
  pending: 'LEFTOVER_STATE_PENDING',
  removed: 'LEFTOVER_STATE_REMOVED',
  stuck: 'LEFTOVER_STATE_STUCK',
};

/** plugin.v1 JanitorService, called by the host. */
export function serveJanitor(server: Server, janitor: Pick<Janitor, 'report' | 'sweep' | 'lastSweepAt'>, options: ServeOptions): void {
  serve<JanitorServiceDefinition>(
    server,
    loadService('tidemark/plugin/v1/janitor_service.proto', 'tidemark.plugin.v1.JanitorService').service,
    {
      GetJanitorReport: {
        roles: ['host'],
        unary: async () => ({
          leftovers: janitor.report().map(toWire),
          lastSweepAt: janitor.lastSweepAt === undefined ? null : timestampToWire(new Date(janitor.lastSweepAt)),
        }),
      },
      Sweep: { roles: ['host'], unary: async () => ({ leftovers: (await janitor.sweep(sweepMs)).map(toWire) }) },
    },
    options,
  );
}

function toWire(leftover: Leftover): WireLeftover {
  const { settledAt, foundAt, state, ...rest } = leftover;
  return {
    ...rest,
    state: states[state],
    foundAt: timestampToWire(new Date(foundAt)),
    settledAt: settledAt === undefined ? null : timestampToWire(new Date(settledAt)),
  };
}
