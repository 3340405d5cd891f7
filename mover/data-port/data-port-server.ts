/** The mover's data port: TLS 1.3 with client certificates, limits, and one Connection per peer. */
import type net from 'node:net';
import tls from 'node:tls';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import { peerIdentity } from '../../common/rpc/peer';
import { RefusalLog } from '../../common/rpc/refusal-log';
import type { TicketClaims } from '../../common/tickets/ticket';
import type { ProcessIdentity } from '../../common/tls/identity';
import { DATA_MOVER_ALPN, DATA_MOVER_CIPHERS, PAYLOAD_SLACK_BYTES } from '../../proto/data-mover/frame-types';
import { CommonErrors } from '../../common/errors/common-errors';
import { DataPortErrors, RepositoryErrors, SessionErrors } from '../errors/mover-errors';
import type { Session } from '../sessions/session';
import type { SessionManager } from '../sessions/session-manager';
import { BufferPool } from '../repository/blocks/buffer-pool';
import type { ConnectionContext } from './channel';
import { Connection } from './connection';
import type { DataPortLimits } from './limits';
import { PayloadBuffers } from './payload-buffers';
import { checkTicket, type TicketKeys } from './ticket-check';

/** Read groups: 4 MiB and a little, at most 16 for all connections. */
const readBufferBytes = 4 * 1024 * 1024 + 2 * PAYLOAD_SLACK_BYTES;
const readBuffers = 16;
const watchIntervalMs = 500;
/** How long commits and reads may hold a connection after the mover's certificate or trust was renewed. */
const drainMs = 60_000;
const renewed = 'the certificate was renewed';

export interface DataPortOptions {
  readonly host: string;
  readonly port: number;
  readonly limits: DataPortLimits;
}

export class DataPortServer implements Service {
  readonly name = 'data port';
  private server: tls.Server | undefined;
  private readonly connections = new Set<Connection>();
  private readonly sockets = new Set<net.Socket>();
  private readonly context: ConnectionContext;
  private watch: NodeJS.Timeout | undefined;
  private unfollow: (() => void) | undefined;
  /** By the clock of the connections. */
  private renewedAt = -Infinity;
  private shownFingerprint = '';
  private readonly refusals: RefusalLog;

  constructor(
    private readonly options: DataPortOptions,
    private readonly identity: ProcessIdentity,
    private readonly keys: TicketKeys,
    private readonly sessions: SessionManager,
    private readonly logger: Logger,
  ) {
    this.refusals = new RefusalLog(logger, 'data connection refused');
    this.context = {
      limits: options.limits,
      logger,
      payloads: new PayloadBuffers(),
      probing: new Set(),
      readPool: new BufferPool(readBufferBytes, readBuffers),
      checkTicket: (ticket) => checkTicket(ticket, this.keys, new Date()),
      findSession: (claims) => this.findSession(claims),
      now: () => performance.now(),
    };
  }

  /** Port that was bound. */
  get port(): number {
    const address = this.server?.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  get connectionCount(): number {
    return this.connections.size;
  }

  async start(): Promise<void> {
    const server = tls.createServer(
      {
        ...this.credentials(),
        requestCert: true,
        rejectUnauthorized: true,
        minVersion: 'TLSv1.3',
        ciphers: DATA_MOVER_CIPHERS,
        ALPNProtocols: [DATA_MOVER_ALPN],
        handshakeTimeout: this.options.limits.helloTimeoutMs,
      },
      (socket) => this.accept(socket),
    );
    // Strangers that do not even finish the handshake are bounded too.
    server.maxConnections = this.options.limits.maxConnections * 2;
    server.on('connection', (socket: net.Socket) => {
      this.sockets.add(socket);
      socket.once('close', () => this.sockets.delete(socket));
    });
    server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      this.refusals.note('HANDSHAKE', { reason: error.code ?? error.message, address: socket.remoteAddress });
      // A handshake that takes too long is reported here and otherwise left open.
      socket.destroy();
    });
    server.on('drop', (data?: net.DropArgument) =>
      this.refusals.note('TOO_MANY_CONNECTIONS', { address: data?.remoteAddress, limit: server.maxConnections }),
    );
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.options.port, this.options.host, resolve);
    }).catch((cause: unknown) => {
      const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown';
      const problems = `- data port ${this.options.host}:${this.options.port} cannot be opened (${reason})`;
      throw CommonErrors.CONFIGURATION_INVALID({ problems }, { cause });
    });
    this.server = server;
    this.shownFingerprint = this.identity.certificate.fingerprint256;
    this.unfollow = this.identity.onReplaced(() => {
      server.setSecureContext(this.credentials());
      this.shownFingerprint = this.identity.certificate.fingerprint256;
      this.renewedAt = this.context.now();
    });
    // After what has arrived was read: a mover that was busy or asleep must not take its own silence for that of its peers.
    this.watch = setInterval(() => setImmediate(() => this.lookAfter()), watchIntervalMs);
    this.watch.unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.watch);
    this.unfollow?.();
    const { server } = this;
    if (!server) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  private credentials(): { key: string; cert: string; ca: string } {
    const { privateKeyPem, certificateChainPem, trustBundlePem } = this.identity.material;
    return { key: privateKeyPem, cert: certificateChainPem, ca: trustBundlePem };
  }

  private accept(socket: tls.TLSSocket): void {
    const connection = new Connection(socket, peerIdentity(socket.getPeerCertificate()), this.context);
    const limit = this.options.limits.maxConnections;
    const refuse = (error: TidemarkError) => this.refuse(connection, error, socket.remoteAddress);
    if (this.connections.size >= limit) return refuse(DataPortErrors.TOO_MANY_CONNECTIONS({ limit }));
    if (socket.alpnProtocol !== DATA_MOVER_ALPN) return refuse(DataPortErrors.FRAME_MALFORMED({ problem: 'no ALPN of the data port' }));
    // Its handshake had begun before a renewal.
    const { fingerprint256 } = socket.getCertificate() as tls.PeerCertificate;
    if (fingerprint256 !== this.shownFingerprint) return connection.sayGoodbye(renewed);
    this.connections.add(connection);
    socket.once('close', () => this.connections.delete(connection));
  }

  private findSession(claims: TicketClaims): Session {
    // A mover that is just starting may not have reached the storage yet: its worker tries again.
    if (!this.sessions.serves(claims.repositoryId)) throw RepositoryErrors.REPOSITORY_NOT_FOUND({ repository: claims.repositoryId });
    // Throws SESSION_ELSEWHERE: the ticket is genuine, and its bearer may know why it is of no use here.
    const session = this.sessions.find(claims.sessionId);
    if (!session || session.repository.id !== claims.repositoryId)
      throw DataPortErrors.TICKET_INVALID({ problem: 'this mover does not have its session' });
    if (session.state !== 'open') throw SessionErrors.SESSION_ENDED({ sessionId: session.id, state: session.state });
    return session;
  }

  /** Closes what is silent, and what is left from before a renewal. */
  private lookAfter(): void {
    const now = this.context.now();
    const { helloTimeoutMs, idleTimeoutMs } = this.options.limits;
    for (const connection of this.connections) {
      const isOld = connection.openedAt <= this.renewedAt;
      if (isOld && (!connection.isBusy || now - this.renewedAt > drainMs)) connection.sayGoodbye(renewed);
      else if (!connection.isReady && now - connection.openedAt > helloTimeoutMs)
        this.refuse(connection, DataPortErrors.CONNECTION_IDLE({ seconds: helloTimeoutMs / 1000 }));
      else if (connection.silentMs() > idleTimeoutMs)
        this.refuse(connection, DataPortErrors.CONNECTION_IDLE({ seconds: idleTimeoutMs / 1000 }));
    }
  }

  private refuse(connection: Connection, error: TidemarkError, address?: string): void {
    this.refusals.note(error.code, { peer: connection.peer, ...(address !== undefined && { address }) });
    connection.close(error);
  }
}
