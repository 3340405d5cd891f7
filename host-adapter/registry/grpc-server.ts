import net from 'node:net';
import { Server } from '@grpc/grpc-js';
import type { ServerCredentials } from '@grpc/grpc-js';
import type { Service } from '../../common/lifecycle/lifecycle';
import { drainAfterRenewals } from '../../common/rpc/drain-server';
import type { ProcessIdentity } from '../../common/tls/identity';
import { HostErrors } from '../errors/host-errors';

/** One port with gRPC services; connections are drained when the identity that they show is renewed. */
export class GrpcServer implements Service {
  readonly server = new Server();
  #port = 0;
  #unfollow: () => void = () => undefined;

  constructor(
    readonly name: string,
    private readonly address: string,
    private readonly wantedPort: number,
    private readonly identity: ProcessIdentity,
    private readonly credentials: (identity: ProcessIdentity) => ServerCredentials,
  ) {}

  /** Bound port, once started. */
  get port(): number {
    return this.#port;
  }

  async start(): Promise<void> {
    const host = net.isIPv6(this.address) ? `[${this.address}]` : this.address;
    const endpoint = `${host}:${this.wantedPort}`;
    this.#port = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync(endpoint, this.credentials(this.identity), (error, port) => {
        if (error) reject(HostErrors.PORT_UNAVAILABLE({ address: endpoint, why: error.message }, { cause: error }));
        else resolve(port);
      });
    });
    this.#unfollow = drainAfterRenewals(this.server, `${host}:${this.#port}`, this.identity);
  }

  /** Streams of processes never end by themselves: they are cut, and the processes come back. */
  stop(): Promise<void> {
    this.#unfollow();
    this.server.forceShutdown();
    return Promise.resolve();
  }
}
