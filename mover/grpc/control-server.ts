/** The mover's control port: gRPC with mutual TLS for the host. What is served on it is added by the composition. */
import net from 'node:net';
import { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import { mutualServerCredentials } from '../../common/tls/credentials';
import { drainAfterRenewals } from '../../common/rpc/drain-server';
import type { ProcessIdentity } from '../../common/tls/identity';

const drainMs = 2_000;

export class ControlServer implements Service {
  readonly name = 'control port';
  /** Add services before `start`. Configurations of large VMs travel in one message. */
  readonly server = new Server({ 'grpc.max_receive_message_length': 64 * 1024 * 1024 });
  private bound = 0;
  private unfollow: () => void = () => undefined;

  constructor(
    private readonly address: string,
    private readonly wantedPort: number,
    private readonly identity: ProcessIdentity,
  ) {}

  /** Port that was bound; 0 before. */
  get port(): number {
    return this.bound;
  }

  async start(): Promise<void> {
    const host = net.isIPv6(this.address) ? `[${this.address}]` : this.address;
    this.bound = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync(`${host}:${this.wantedPort}`, mutualServerCredentials(this.identity), (error, port) =>
        error ? reject(error) : resolve(port),
      );
    }).catch((cause: unknown) => {
      const problems = `- control port ${host}:${this.wantedPort} cannot be opened; is it in use?`;
      throw CommonErrors.CONFIGURATION_INVALID({ problems }, { cause });
    });
    this.unfollow = drainAfterRenewals(this.server, `${host}:${this.bound}`, this.identity);
  }

  /** Lets calls end for a moment, then cuts streams off. */
  stop(): Promise<void> {
    this.unfollow();
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
