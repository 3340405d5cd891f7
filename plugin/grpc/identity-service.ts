import type { Server } from '@grpc/grpc-js';
import { serve } from '../../common/rpc/serve';
import type { ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { IdentityServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/IdentityService';

const definition = loadService('tidemark/plugin/v1/identity_service.proto', 'tidemark.plugin.v1.IdentityService').service;

export interface PluginIdentity {
  readonly process: ProcessInfo;
  readonly pluginId: string;
  readonly displayName: string;
}

/** Who the plug-in is. */
export function serveIdentity(server: Server, identity: PluginIdentity, options: ServeOptions): void {
  serve<IdentityServiceDefinition>(
    server,
    definition,
    {
      GetPluginInfo: {
        roles: ['host'],
        unary: async () => ({ process: identity.process, pluginId: identity.pluginId, displayName: identity.displayName }),
      },
    },
    options,
  );
}
