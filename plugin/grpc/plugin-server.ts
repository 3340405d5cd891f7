/**
 * The plug-in's two ports: mutual TLS for host and workers, and one with server-authenticated TLS for workers that enrol. What is served on
 * them is added by the composition.
 */
import { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { RpcPort, strangersServerOptions } from '../../common/rpc/rpc-port';
import type { RpcPortOptions } from '../../common/rpc/rpc-port';
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
  readonly enrolment = new Server(strangersServerOptions);
  #main: RpcPort | undefined;
  #enrolment: RpcPort | undefined;

  constructor(
    private readonly listen: Listen,
    private readonly identity: ProcessIdentity,
    private readonly logger: Logger,
  ) {}

  /** Ports that were opened; 0 before. */
  get ports(): { readonly port: number; readonly enrolmentPort: number } {
    return { port: this.#main?.port ?? 0, enrolmentPort: this.#enrolment?.port ?? 0 };
  }

  async start(): Promise<void> {
    this.#main = await this.#open(this.main, this.listen.port, 'ours');
    this.#enrolment = await this.#open(this.enrolment, this.listen.enrolmentPort, 'strangers');
    this.logger.info('ports are open', { address: this.listen.address, ...this.ports });
  }

  async stop(): Promise<void> {
    this.#main?.close();
    this.#enrolment?.close();
    await Promise.all([shutDown(this.main), shutDown(this.enrolment)]);
  }

  async #open(server: Server, port: number, admits: RpcPortOptions['admits']): Promise<RpcPort> {
    const { address } = this.listen;
    const open = (at: string) => RpcPort.open(server, this.identity, { address: at, port, admits }, this.logger);
    try {
      return await open(address);
    } catch (error) {
      // A machine without IPv6 has no "::".
      if (address === '::') {
        try {
          return await open('0.0.0.0');
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
