/**
 * The plug-in's two ports: mutual TLS for host and workers, and one with server-authenticated TLS for workers that enrol. What is served on
 * them is added by the composition.
 */
import net from 'node:net';
import { Server } from '@grpc/grpc-js';
import type { ServerCredentials } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { drainAfterRenewals } from '../../common/rpc/drain-server';
import { enrolmentServerCredentials, mutualServerCredentials } from '../../common/tls/credentials';
import type { ProcessIdentity } from '../../common/tls/identity';

export interface Listen {
  readonly address: string;
  readonly port: number;
  readonly enrolmentPort: number;
}

const drainMs = 2_000;

export class PluginServer implements Service {
  readonly name = 'plugin-server';
  /** Add services before {@link start}. */
  readonly main = new Server({ 'grpc.max_receive_message_length': 64 * 1024 * 1024 });
  readonly enrolment = new Server({ 'grpc.max_receive_message_length': 64 * 1024 });
  #port = 0;
  #enrolmentPort = 0;
  readonly #unfollow: (() => void)[] = [];

  constructor(
    private readonly listen: Listen,
    private readonly identity: ProcessIdentity,
    private readonly logger: Logger,
  ) {}

  /** Ports that were opened; 0 before. */
  get ports(): { readonly port: number; readonly enrolmentPort: number } {
    return { port: this.#port, enrolmentPort: this.#enrolmentPort };
  }

  async start(): Promise<void> {
    this.#port = await this.#bind(this.main, this.listen.port, mutualServerCredentials(this.identity));
    this.#enrolmentPort = await this.#bind(this.enrolment, this.listen.enrolmentPort, enrolmentServerCredentials(this.identity));
    this.logger.info('ports are open', { address: this.listen.address, ...this.ports });
  }

  async stop(): Promise<void> {
    for (const unfollow of this.#unfollow) unfollow();
    await Promise.all([shutDown(this.main), shutDown(this.enrolment)]);
  }

  async #bind(server: Server, port: number, credentials: ServerCredentials): Promise<number> {
    const { address } = this.listen;
    try {
      return await this.#bindOnce(server, address, port, credentials);
    } catch (error) {
      // A machine without IPv6 has no "::".
      if (address === '::') {
        try {
          return await this.#bindOnce(server, '0.0.0.0', port, credentials);
        } catch {
          // The first failure says more.
        }
      }
      throw CommonErrors.CONFIGURATION_INVALID(
        { problems: `- listen: ${address} port ${port} cannot be opened; is it in use?` },
        { cause: error },
      );
    }
  }

  async #bindOnce(server: Server, address: string, wantedPort: number, credentials: ServerCredentials): Promise<number> {
    const host = net.isIPv6(address) ? `[${address}]` : address;
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`${host}:${wantedPort}`, credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
    });
    this.#unfollow.push(drainAfterRenewals(server, `${host}:${port}`, this.identity));
    return port;
  }
}

/** Lets calls end for a moment, then cuts watches and worker streams off. */
function shutDown(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, drainMs);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
