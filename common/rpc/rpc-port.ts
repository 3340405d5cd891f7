/**
 * A port with gRPC services. Strangers get a bounded share of it, in number and in time: of handshakes under way the oldest goes when there are too
 * many, so that who hangs cannot keep others out, and on a port without client certificates that holds for connections as well. grpc-js could open
 * the port itself, but bounds nothing there and tells nothing. After a renewal of the identity the connections of before are drained.
 */
import type net from 'node:net';
import tls from 'node:tls';
import { ServerCredentials } from '@grpc/grpc-js';
import type { ConnectionInjector, Server } from '@grpc/grpc-js';
import type { Logger } from '../log/logger';
import type { ProcessIdentity } from '../tls/identity';
import { chainForStrangers } from '../tls/pinned-authority';
import { RefusalLog } from './refusal-log';
import { connectionDrainMs } from './renewable-channel';

export interface RpcPortLimits {
  /** TLS handshakes at a time; one more ends the oldest. */
  readonly handshakes: number;
  readonly handshakeMs: number;
  /** Connections past their handshake. With client certificates one more is refused, without them it ends the oldest. */
  readonly connections: number;
  /** How long a connection without a client certificate may last, whatever it does: what is served there takes a second. */
  readonly strangerMs: number;
  /** How long calls under way may hold a connection after a renewal. */
  readonly drainMs: number;
}

export const defaultRpcPortLimits: RpcPortLimits = {
  handshakes: 128,
  handshakeMs: 10_000,
  connections: 1_024,
  strangerMs: 60_000,
  drainMs: connectionDrainMs,
};

export interface RpcPortOptions {
  /** Address and port to listen on; port 0 picks a free one. */
  readonly address: string;
  readonly port: number;
  /** `ours`: peers with a certificate of our CA. `strangers`: anyone, for enrolment; they are shown every CA that their token may have pinned. */
  readonly admits: 'ours' | 'strangers';
  readonly limits?: Partial<RpcPortLimits>;
}

/** What a server on a port for strangers is made with: each of them may claim no more than this. */
export const strangersServerOptions = { 'grpc.max_receive_message_length': 64 * 1024, 'grpc.max_concurrent_streams': 4 };

/** Dead machines are noticed by the kernel: whoever has no call under way sends nothing. */
const keepAliveMs = 60_000;
const alpn = 'h2';

export class RpcPort {
  readonly #limits: RpcPortLimits;
  readonly #refusals: RefusalLog;
  readonly #listener: tls.Server;
  /** Sockets in their handshake, the oldest first, by {@link keyOf}: TLS sockets do not tell which socket they are on. */
  readonly #shaking = new Map<string, net.Socket>();
  /** The oldest first. */
  readonly #connections = new Set<tls.TLSSocket>();
  #injector: ConnectionInjector;
  #unfollow: () => void = () => undefined;

  private constructor(
    private readonly server: Server,
    private readonly identity: ProcessIdentity,
    private readonly options: RpcPortOptions,
    logger: Logger,
  ) {
    this.#limits = { ...defaultRpcPortLimits, ...options.limits };
    this.#refusals = new RefusalLog(logger, 'connection refused');
    // The bytes that come here have left TLS already.
    this.#injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#listener = tls.createServer({ ...this.#credentials(), ALPNProtocols: [alpn], handshakeTimeout: this.#limits.handshakeMs });
    this.#listener.on('connection', (socket: net.Socket) => this.#shake(socket));
    this.#listener.on('secureConnection', (socket) => this.#accept(socket));
    this.#listener.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      this.#refuse(socket, 'HANDSHAKE', { reason: error.code ?? error.message });
    });
  }

  /** Opens the port for a server's services. Rejects with the system's error when it cannot be opened. */
  static async open(server: Server, identity: ProcessIdentity, options: RpcPortOptions, logger: Logger): Promise<RpcPort> {
    const port = new RpcPort(server, identity, options, logger);
    await port.#listen();
    return port;
  }

  /** Port that was opened. */
  get port(): number {
    const address = this.#listener.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** Handshakes and connections now. */
  get load(): { readonly handshakes: number; readonly connections: number } {
    return { handshakes: this.#shaking.size, connections: this.#connections.size };
  }

  /** Lets nobody in any more. Connections end with the server that is served on them. */
  close(): void {
    this.#unfollow();
    this.#listener.close();
    for (const socket of this.#shaking.values()) socket.destroy();
  }

  async #listen(): Promise<void> {
    const { address, port } = this.options;
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', reject);
      this.#listener.listen(port, address, () => {
        this.#listener.off('error', reject);
        resolve();
      });
    });
    this.#unfollow = this.identity.onReplaced(() => this.#renew());
  }

  #credentials(): tls.TlsOptions {
    const { material } = this.identity;
    const { privateKeyPem: key, certificateChainPem, trustBundlePem: ca } = material;
    if (this.options.admits === 'strangers') return { key, cert: chainForStrangers(material) };
    return { key, cert: certificateChainPem, ca, requestCert: true, rejectUnauthorized: true };
  }

  #shake(socket: net.Socket): void {
    const key = keyOf(socket);
    this.#shaking.set(key, socket);
    socket.setKeepAlive(true, keepAliveMs);
    socket.once('close', () => {
      if (this.#shaking.get(key) === socket) this.#shaking.delete(key);
    });
    const [oldest] = this.#shaking.values();
    if (this.#shaking.size > this.#limits.handshakes && oldest)
      this.#refuse(oldest, 'TOO_MANY_HANDSHAKES', { limit: this.#limits.handshakes });
  }

  #accept(socket: tls.TLSSocket): void {
    this.#shaking.delete(keyOf(socket));
    // What broke it is told to whoever has a call on it.
    socket.on('error', () => undefined);
    if (socket.alpnProtocol !== alpn) return this.#refuse(socket, 'HANDSHAKE', { reason: 'no HTTP/2' });
    const { connections, strangerMs } = this.#limits;
    const isStranger = this.options.admits === 'strangers';
    if (this.#connections.size >= connections) {
      const [oldest = socket] = isStranger ? this.#connections : [socket];
      this.#refuse(oldest, 'TOO_MANY_CONNECTIONS', { limit: connections });
      if (oldest === socket) return;
    }
    this.#connections.add(socket);
    const late = isStranger ? setTimeout(() => this.#refuse(socket, 'TOO_LONG', { limitMs: strangerMs }), strangerMs) : undefined;
    late?.unref();
    socket.once('close', () => {
      clearTimeout(late);
      this.#connections.delete(socket);
    });
    this.#injector.injectConnection(socket);
  }

  #refuse(socket: net.Socket, code: string, fields: Record<string, unknown>): void {
    this.#refusals.note(code, { port: this.port, ...fields, address: socket.remoteAddress });
    this.#connections.delete(socket as tls.TLSSocket);
    socket.destroy();
  }

  /** An injector for each generation: draining one ends, when its time is up, everything that came through it. */
  #renew(): void {
    this.#listener.setSecureContext(this.#credentials());
    const old = this.#injector;
    this.#injector = this.server.createConnectionInjector(ServerCredentials.createInsecure());
    const { drainMs } = this.#limits;
    // Clients are told to open new connections (GOAWAY), calls under way go on.
    old.drain(drainMs);
    setTimeout(() => old.destroy(), drainMs).unref();
  }
}

/** Of no two sockets of one port at the same time. */
function keyOf({ localAddress, remoteAddress, remotePort }: net.Socket): string {
  return `${localAddress} ${remoteAddress} ${remotePort}`;
}
