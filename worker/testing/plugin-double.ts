/** The plug-in's end of tidemark.worker.v1 for tests: real gRPC over mutual TLS, said and heard by the test. */
import { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { loggerTo } from '../../common/log/logger';
import { durationToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import { issueCertificate, issueIdentity } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import { mutualServerCredentials } from '../../common/tls/credentials';
import { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { ConnectRequest__Output } from '../../proto/gen/tidemark/worker/v1/ConnectRequest';
import type { ConnectResponse } from '../../proto/gen/tidemark/worker/v1/ConnectResponse';
import type { Hello__Output } from '../../proto/gen/tidemark/worker/v1/Hello';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';

export class PluginDouble {
  readonly hellos: Hello__Output[] = [];
  readonly heard: ConnectRequest__Output[] = [];
  /** Signs renewals. */
  signer: Authority;
  /** So many renewals fail. */
  failingRenewals = 0;
  /** Every stream is refused with it. */
  refusal: TidemarkError | undefined;
  renewals = 0;
  port = 0;
  private readonly server = new Server();
  private outbox: ConnectResponse[] = [];
  private wake: () => void = () => undefined;
  private end: () => void = () => undefined;

  private constructor(
    authority: Authority,
    /** Comes with renewals. */
    public bundlePem: string,
    readonly identity: ProcessIdentity,
  ) {
    this.signer = authority;
  }

  static async start(authority: Authority): Promise<PluginDouble> {
    const material = await issueIdentity(authority, { role: 'plugin', id: 'p1' }, ['127.0.0.1']);
    const double = new PluginDouble(authority, `${authority.certificatePem}\n`, new ProcessIdentity(material, undefined));
    const { service } = loadService('tidemark/worker/v1/worker_service.proto', 'tidemark.worker.v1.WorkerService');
    serve<WorkerServiceDefinition>(
      double.server,
      service,
      {
        Connect: { roles: ['worker'], bidi: (requests) => double.connect(requests) },
        RenewCertificate: { roles: ['worker'], unary: (request) => double.renew(request.certificateRequestPem) },
      },
      { logger: loggerTo(() => undefined), domain: 'plugin' },
    );
    double.port = await new Promise<number>((resolve, reject) =>
      double.server.bindAsync('127.0.0.1:0', mutualServerCredentials(double.identity), (error, port) =>
        error ? reject(error) : resolve(port),
      ),
    );
    return double;
  }

  say(message: ConnectResponse): void {
    this.outbox.push(message);
    this.wake();
  }

  /** The first message, from now on or before, for which `pick` gives something. */
  async hear<T>(what: string, pick: (message: ConnectRequest__Output) => T | undefined | null | false): Promise<T> {
    for (const until = Date.now() + 150_000; ;) {
      for (const message of this.heard) {
        const found = pick(message);
        if (found !== undefined && found !== null && found !== false) return found;
      }
      if (Date.now() > until) throw new Error(`never heard ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Ends the worker's stream. */
  drop(): void {
    this.end();
  }

  stop(): void {
    this.server.forceShutdown();
  }

  private async renew(certificateRequestPem: string) {
    this.renewals += 1;
    if (this.renewals <= this.failingRenewals) throw CommonErrors.HOST_NOT_READY({});
    const identity = { role: 'worker' as const, id: 'w1' };
    const certificateChainPem = await issueCertificate(this.signer, {
      certificateRequestPem,
      identity,
      addresses: [],
      lifetimeMs: 7 * 86_400_000,
    });
    return { certificate: { certificateChainPem, trustBundlePem: this.bundlePem } };
  }

  private async *connect(requests: AsyncIterable<ConnectRequest__Output>): AsyncGenerator<ConnectResponse> {
    if (this.refusal) throw this.refusal;
    let ended = false;
    this.outbox = [];
    this.end = () => {
      ended = true;
      this.wake();
    };
    void this.listen(requests).then(this.end, this.end);
    const beat = setInterval(() => this.say({ heartbeat: { residentMemoryBytes: '0' } }), 200);
    while (!ended) {
      const message = this.outbox.shift();
      if (message) yield message;
      else await new Promise<void>((resolve) => (this.wake = resolve));
    }
    clearInterval(beat);
  }

  private async listen(requests: AsyncIterable<ConnectRequest__Output>): Promise<void> {
    for await (const message of requests) {
      this.heard.push(message);
      if (!message.hello) continue;
      this.hellos.push(message.hello);
      this.say({ welcome: { heartbeatInterval: durationToWire(300) } });
    }
  }
}
