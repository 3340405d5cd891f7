import { randomUUID } from 'node:crypto';
import { Server } from '@grpc/grpc-js';
import type { ServerCredentials } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { defineErrors } from '../../common/errors/define-errors';
import { RpcClient } from '../../common/rpc/call';
import { serve } from '../../common/rpc/serve';
import { createAuthority, crossSign, issueCertificate, issueIdentity } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import { enrolmentServerCredentials, mutualClientCredentials, mutualServerCredentials } from '../../common/tls/credentials';
import { ProcessIdentity } from '../../common/tls/identity';
import { ownLoopback } from '../../common/testing/loopback';
import { createToken, fingerprintOf } from '../../common/tls/token';
import { fingerprintsOf } from '../../common/tls/trust-state';
import { loadService } from '../../proto/loader';
import type { EnrolmentApplication__Output } from '../../proto/gen/tidemark/common/v1/EnrolmentApplication';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import type { EnrolmentServiceDefinition } from '../../proto/gen/tidemark/host/v1/EnrolmentService';
import type { HeartbeatRequest__Output } from '../../proto/gen/tidemark/host/v1/HeartbeatRequest';
import type { PluginEvent__Output } from '../../proto/gen/tidemark/host/v1/PluginEvent';
import type { PluginRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/PluginRegistryService';
import type { RegisterPluginRequest__Output } from '../../proto/gen/tidemark/host/v1/RegisterPluginRequest';
import { quietLogger } from './quiet-logger';

const v1 = 'tidemark/host/v1';
const hour = 3_600_000;

const GapErrors = defineErrors({
  EVENT_SEQUENCE_GAP: {
    kind: 'bug',
    retry: 'same-request',
    status: 'FAILED_PRECONDITION',
    message: (m: { expected: number; found: number }) => `Event ${m.expected} was expected, ${m.found} came.`,
  },
});

/** The host side as its contract describes it: enrolment, registry with leases and stored events, certificates. Can go away and come back. */
export class FakeHost {
  readonly registrations: RegisterPluginRequest__Output[] = [];
  readonly heartbeats: HeartbeatRequest__Output[] = [];
  readonly events: PluginEvent__Output[] = [];
  readonly token: string;
  leaseMs = 300;
  enabled = false;
  certificateLifetimeMs = 24 * hour;
  renewals = 0;
  trustBundlePem: string;
  /** Acknowledges, then breaks the stream, after this many batches. */
  breakStreamAfter = Number.POSITIVE_INFINITY;
  #lease = '';
  #tokenUses = 0;
  #main = new Server();
  #enrolment = new Server();
  #ports = { main: 0, enrolment: 0 };

  private constructor(
    private authority: Authority,
    private readonly identity: ProcessIdentity,
  ) {
    this.token = createToken(authority.certificatePem);
    this.trustBundlePem = identity.material.trustBundlePem;
  }

  static async start(): Promise<FakeHost> {
    const authority = await createAuthority('test host');
    const identity = new ProcessIdentity(
      await issueIdentity(authority, { role: 'host', id: 'host-1' }, ['localhost', ownLoopback]),
      undefined,
    );
    const host = new FakeHost(authority, identity);
    await host.#open();
    return host;
  }

  get endpoint(): string {
    return `${ownLoopback}:${this.#ports.main}`;
  }

  get enrolmentEndpoint(): string {
    return `${ownLoopback}:${this.#ports.enrolment}`;
  }

  /** An identity as a plug-in has it after enrolment. */
  async pluginIdentity(lifetimeMs = 24 * hour): Promise<ProcessIdentity> {
    return new ProcessIdentity(
      await issueIdentity(this.authority, { role: 'plugin', id: 'plugin-1' }, ['localhost', '127.0.0.1'], lifetimeMs),
      undefined,
    );
  }

  /** A client of a plug-in, with the host's certificate. */
  client<S>(file: string, service: string, endpoint: string): RpcClient<S> {
    const definition = loadService(`tidemark/plugin/v1/${file}.proto`, `tidemark.plugin.v1.${service}`).service;
    return new RpcClient<S>(definition, endpoint, mutualClientCredentials(this.identity, 'plugin'));
  }

  /** A new CA beside the old one, as the contract's TrustOrder has it. Returns its fingerprint. */
  async rotate(): Promise<string> {
    const older = this.authority;
    const made = await createAuthority('second test host');
    this.authority = { ...made, crossCertificatePem: await crossSign(older, made) };
    this.trustBundlePem = `${made.certificatePem}\n${older.certificatePem}\n`;
    const own = await issueIdentity(this.authority, { role: 'host', id: 'host-1' }, ['localhost', ownLoopback]);
    this.identity.replace({ ...own, trustBundlePem: this.trustBundlePem });
    return fingerprintOf(made.certificatePem);
  }

  #orders({ workers, trust }: HeartbeatRequest__Output) {
    const trustedCaFingerprints = fingerprintsOf(this.trustBundlePem);
    const issuer = fingerprintOf(this.authority.certificatePem);
    const order = (shown: string | undefined) => ({ trustedCaFingerprints, renewCertificate: shown !== issuer });
    return {
      trust: order(trust?.issuerFingerprint),
      workers: workers.map((one) => ({ workerId: one.workerId, order: order(one.trust?.issuerFingerprint) })),
    };
  }

  forgetLease(): void {
    this.#lease = '';
  }

  stop(): void {
    this.#main.forceShutdown();
    this.#enrolment.forceShutdown();
  }

  /** On the same ports. */
  async restart(): Promise<void> {
    this.stop();
    this.forgetLease();
    this.#main = new Server();
    this.#enrolment = new Server();
    await this.#open();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  async #open(): Promise<void> {
    const options = { logger: quietLogger().logger, domain: 'host' };
    serve<EnrolmentServiceDefinition>(
      this.#enrolment,
      loadService(`${v1}/enrolment_service.proto`, 'tidemark.host.v1.EnrolmentService').service,
      {
        Enrol: {
          roles: 'anyone',
          unary: async ({ application }) => ({ certificate: await this.#issue(application, 'plugin', 'plugin-1'), subjectId: 'plugin-1' }),
        },
      },
      options,
    );
    serve<CertificateServiceDefinition>(
      this.#main,
      loadService(`${v1}/certificate_service.proto`, 'tidemark.host.v1.CertificateService').service,
      {
        RenewCertificate: {
          roles: ['plugin'],
          unary: async (request) => {
            this.renewals += 1;
            return { certificate: await this.#sign(request.certificateRequestPem, 'plugin', 'plugin-1', request.addresses) };
          },
        },
        GetTrustBundle: { roles: ['plugin'], unary: async () => ({ trustBundlePem: this.trustBundlePem }) },
      },
      options,
    );
    this.#serveRegistry(options);
    this.#ports = {
      main: await bind(this.#main, this.#ports.main, mutualServerCredentials(this.identity)),
      enrolment: await bind(this.#enrolment, this.#ports.enrolment, enrolmentServerCredentials(this.identity)),
    };
  }

  #serveRegistry(options: Parameters<typeof serve>[3]): void {
    const lease = () => ({ seconds: '0', nanos: this.leaseMs * 1_000_000 });
    const check = (leaseId: string) => {
      if (leaseId !== this.#lease || leaseId === '') throw CommonErrors.LEASE_LOST({ leaseId });
    };
    const acknowledged = () => Number(this.events.at(-1)?.sequence ?? 0);
    serve<PluginRegistryServiceDefinition>(
      this.#main,
      loadService(`${v1}/plugin_registry_service.proto`, 'tidemark.host.v1.PluginRegistryService').service,
      {
        RegisterPlugin: {
          roles: ['plugin'],
          unary: async (request) => {
            this.registrations.push(request);
            this.#lease = randomUUID();
            return {
              leaseId: this.#lease,
              leaseDuration: lease(),
              enabled: this.enabled,
              acknowledgedEventSequence: String(acknowledged()),
            };
          },
        },
        Heartbeat: {
          roles: ['plugin'],
          unary: async (request) => {
            check(request.leaseId);
            this.heartbeats.push(request);
            return { leaseDuration: lease(), enabled: this.enabled, ...this.#orders(request) };
          },
        },
        StreamEvents: {
          roles: ['plugin'],
          bidi: (requests) => this.#storeEvents(requests, check, acknowledged),
        },
        EnrolWorker: {
          roles: ['plugin'],
          unary: async ({ application }) => ({ certificate: await this.#issue(application, 'worker', 'worker-1'), workerId: 'worker-1' }),
        },
        RenewWorkerCertificate: {
          roles: ['plugin'],
          unary: async (request) => ({ certificate: await this.#sign(request.certificateRequestPem, 'worker', request.workerId, []) }),
        },
        CreateWorkerToken: { roles: ['plugin'], unary: async () => ({ token: this.token }) },
        RevokeWorker: { roles: ['plugin'], unary: async () => ({}) },
        CreateProbePaths: { roles: ['plugin'], unary: async () => ({ paths: [] }) },
      },
      options,
    );
  }

  async *#storeEvents(
    requests: AsyncIterable<{ leaseId: string; events: PluginEvent__Output[] }>,
    check: (leaseId: string) => void,
    acknowledged: () => number,
  ) {
    let batches = 0;
    for await (const { leaseId, events } of requests) {
      check(leaseId);
      for (const event of events) {
        const sequence = Number(event.sequence);
        if (sequence > acknowledged() + 1) throw GapErrors.EVENT_SEQUENCE_GAP({ expected: acknowledged() + 1, found: sequence });
        if (sequence === acknowledged() + 1) this.events.push(event);
      }
      batches += 1;
      // Stored, but the answer gets lost.
      if (batches >= this.breakStreamAfter) throw CommonErrors.HOST_NOT_READY({});
      yield { acknowledgedSequence: String(acknowledged()) };
    }
  }

  async #issue(application: EnrolmentApplication__Output | null, role: 'plugin' | 'worker', id: string) {
    if (role === 'plugin') {
      this.#tokenUses += 1;
      if (application?.token !== this.token || this.#tokenUses > 1)
        throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'it was used or never made' });
    }
    return this.#sign(application?.certificateRequestPem ?? '', role, id, application?.addresses ?? []);
  }

  async #sign(certificateRequestPem: string, role: 'plugin' | 'worker', id: string, addresses: readonly string[]) {
    const certificateChainPem = await issueCertificate(this.authority, {
      certificateRequestPem,
      identity: { role, id },
      addresses,
      lifetimeMs: this.certificateLifetimeMs,
    });
    return { certificateChainPem, trustBundlePem: this.trustBundlePem };
  }
}

function bind(server: Server, port: number, credentials: ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`${ownLoopback}:${port}`, credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
}
