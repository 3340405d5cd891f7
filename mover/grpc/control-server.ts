/** The mover's control port: gRPC with mutual TLS for the host. What is served on it is added by the composition. */
import { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { RpcPort } from '../../common/rpc/rpc-port';
import type { ProcessIdentity } from '../../common/tls/identity';

const drainMs = 2_000;

export class ControlServer implements Service {
  readonly name = 'control port';
  /** Add services before `start`. Configurations of large VMs travel in one message. */
  readonly server = new Server({ 'grpc.max_receive_message_length': 64 * 1024 * 1024 });
  private opened: RpcPort | undefined;

  constructor(
    private readonly address: string,
    private readonly wantedPort: number,
    private readonly identity: ProcessIdentity,
    private readonly logger: Logger,
  ) {}

  /** Port that was bound; 0 before. */
  get port(): number {
    return this.opened?.port ?? 0;
  }

  async start(): Promise<void> {
    const { address, wantedPort: port, identity, logger } = this;
    this.opened = await RpcPort.open(this.server, identity, { address, port, admits: 'ours' }, logger).catch((cause: unknown) => {
      const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown';
      const problems = `- control port ${address}:${port} cannot be opened (${reason}); is it in use?`;
      throw CommonErrors.CONFIGURATION_INVALID({ problems }, { cause });
    });
  }

  /** Lets calls end for a moment, then cuts streams off. */
  stop(): Promise<void> {
    this.opened?.close();
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.server.forceShutdown();
        resolve();
      }, drainMs);
      this.server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
