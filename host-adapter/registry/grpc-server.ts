import { Server } from '@grpc/grpc-js';
import type { Logger } from '../../common/log/logger';
import type { Service } from '../../common/lifecycle/lifecycle';
import { RpcPort, strangersServerOptions } from '../../common/rpc/rpc-port';
import type { RpcPortOptions } from '../../common/rpc/rpc-port';
import type { ProcessIdentity } from '../../common/tls/identity';
import { HostErrors } from '../errors/host-errors';

/** One port with gRPC services, opened when the process starts. */
export class GrpcServer implements Service {
  readonly server: Server;
  #opened: RpcPort | undefined;

  constructor(
    readonly name: string,
    private readonly listen: Pick<RpcPortOptions, 'address' | 'port' | 'admits'>,
    private readonly identity: ProcessIdentity,
    private readonly logger: Logger,
  ) {
    this.server = new Server(listen.admits === 'strangers' ? strangersServerOptions : {});
  }

  /** Bound port, once started. */
  get port(): number {
    return this.#opened?.port ?? 0;
  }

  async start(): Promise<void> {
    const { address, port } = this.listen;
    this.#opened = await RpcPort.open(this.server, this.identity, this.listen, this.logger).catch((cause: unknown) => {
      const why = (cause as Error).message;
      throw HostErrors.PORT_UNAVAILABLE({ address: `${address}:${port}`, why }, { cause });
    });
  }

  /** Streams of processes never end by themselves: they are cut, and the processes come back. */
  stop(): Promise<void> {
    this.#opened?.close();
    this.server.forceShutdown();
    return Promise.resolve();
  }
}
