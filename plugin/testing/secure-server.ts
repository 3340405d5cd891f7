import { Server } from '@grpc/grpc-js';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { mutualClientCredentials, mutualServerCredentials } from '../../common/tls/credentials';
import { ProcessIdentity } from '../../common/tls/identity';
import type { Role } from '../../common/rpc/peer';
import type { RenewableCredentials } from '../../common/rpc/renewable-channel';

/** A gRPC server of role `plugin` on a free loopback port, with its own CA, and credentials for peers of any role. */
export async function secureServer(register: (server: Server) => void): Promise<{
  endpoint: string;
  readonly credentialsFor: (role: Role, id: string) => Promise<RenewableCredentials>;
  [Symbol.dispose](): void;
}> {
  const authority = await createAuthority('test');
  const make = async (role: Role, id: string) =>
    new ProcessIdentity(await issueIdentity(authority, { role, id }, ['localhost', '127.0.0.1']), undefined);
  const server = new Server();
  register(server);
  const credentials = mutualServerCredentials(await make('plugin', 'plugin-1'));
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  return {
    endpoint: `127.0.0.1:${port}`,
    credentialsFor: async (role, id) => mutualClientCredentials(await make(role, id), 'plugin'),
    [Symbol.dispose]: () => server.forceShutdown(),
  };
}
