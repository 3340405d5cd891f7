/**
 * The mover's line to its host: registration, lease, ticket keys, certificates. The host may come and go; sessions and the data port go on without
 * it. Contract: proto/tidemark/host/v1.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { durationFromWire } from '../../common/rpc/bytes';
import { RpcClient, pause } from '../../common/rpc/call';
import { mutualClientCredentials } from '../../common/tls/credentials';
import type { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import type { MoverRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/MoverRegistryService';
import { keepCertificate } from './certificate-renewal';
import type { KnownTicketKeys } from './known-ticket-keys';

export interface HostLinkOptions {
  readonly hostEndpoint: string;
  readonly process: ProcessInfo;
  readonly addresses: readonly string[];
  /** Where others dial; known once the ports are open. */
  endpoints(): { readonly controlEndpoint: string; readonly dataEndpoints: readonly string[] };
}

const registry = loadService('tidemark/host/v1/mover_registry_service.proto', 'tidemark.host.v1.MoverRegistryService').service;
const certificates = loadService('tidemark/host/v1/certificate_service.proto', 'tidemark.host.v1.CertificateService').service;
const registerDeadlineMs = 10_000;
const heartbeatDeadlineMs = 5_000;
const defaultLeaseMs = 30_000;
const longestRetryMs = 10_000;
/** Refusals that only an operator can mend are asked about this often. */
const refusedRetryMs = 60_000;

export class HostLink implements Service {
  readonly name = 'host link';
  private readonly stopping = new AbortController();
  private readonly registry: RpcClient<MoverRegistryServiceDefinition>;
  private readonly certificates: RpcClient<CertificateServiceDefinition>;
  private running: Promise<unknown> = Promise.resolve();
  private leaseId = '';
  private registered = false;

  constructor(
    private readonly options: HostLinkOptions,
    private readonly identity: ProcessIdentity,
    private readonly keys: KnownTicketKeys,
    private readonly logger: Logger,
  ) {
    const credentials = mutualClientCredentials(identity, 'host');
    this.registry = new RpcClient(registry, options.hostEndpoint, credentials);
    this.certificates = new RpcClient(certificates, options.hostEndpoint, credentials);
  }

  /** Returns at once; the host is looked for in the background. */
  async start(): Promise<void> {
    const { signal } = this.stopping;
    this.running = Promise.all([
      this.keepLease(signal),
      keepCertificate(this.identity, this.certificates, this.options.addresses, this.logger, signal),
    ]);
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
    this.registry.close();
    this.certificates.close();
  }

  /** Registers, keeps the lease until it is lost, and starts over. Never rejects. */
  private async keepLease(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        const leaseMs = await this.register(signal);
        failures = 0;
        await this.beat(leaseMs, signal);
      } catch (thrown) {
        if (signal.aborted) return;
        failures += 1;
        await pause(this.failed(thrown, failures), signal).catch(() => undefined);
      }
    }
  }

  private async register(signal: AbortSignal): Promise<number> {
    const { controlEndpoint, dataEndpoints } = this.options.endpoints();
    const request = { process: this.options.process, controlEndpoint, dataEndpoints: [...dataEndpoints] };
    const reply = await this.registry.call('RegisterMover', request, { deadlineMs: registerDeadlineMs, signal });
    this.leaseId = reply.leaseId;
    this.keys.replace(reply.ticketPublicKeysPem);
    this.registered = true;
    this.logger.info('registered with the server', { endpoint: this.options.hostEndpoint });
    return durationFromWire(reply.leaseDuration) ?? defaultLeaseMs;
  }

  /** Heartbeats at a third of the lease. Rejects when the lease is lost, or when no heartbeat got through for its length. */
  private async beat(firstLeaseMs: number, signal: AbortSignal): Promise<void> {
    let leaseMs = firstLeaseMs;
    let until = Date.now() + leaseMs;
    while (!signal.aborted) {
      await pause(Math.max(leaseMs / 3, 100), signal);
      try {
        const reply = await this.registry.call('MoverHeartbeat', { leaseId: this.leaseId }, { deadlineMs: heartbeatDeadlineMs, signal });
        leaseMs = durationFromWire(reply.leaseDuration) ?? leaseMs;
        until = Date.now() + leaseMs;
        this.keys.replace(reply.ticketPublicKeysPem);
      } catch (error) {
        if (!hasCode(error, 'PEER_UNAVAILABLE', 'DEADLINE_EXCEEDED') || Date.now() >= until) throw error;
        // One lost heartbeat is why the lease is three times as long.
        this.logger.debug('a heartbeat did not get through', { code: error.code });
      }
    }
  }

  /** Notes a failure and returns how long to wait. */
  private failed(thrown: unknown, failures: number): number {
    const error = toTidemarkError(thrown, 'talking to the server');
    const fields = { endpoint: this.options.hostEndpoint, code: error.code, message: error.message };
    const wasRegistered = this.registered;
    this.registered = false;
    if (error.code === 'LEASE_LOST') {
      this.logger.info('the server does not know our lease any more; registering again', fields);
      return failures > 3 ? longestRetryMs : 0;
    }
    if (hasCode(error, 'CAPABILITY_MISSING', 'IDENTITY_REVOKED', 'ROLE_NOT_ALLOWED')) {
      this.logger.error('the server refuses this mover', fields);
      return refusedRetryMs;
    }
    if (wasRegistered || failures === 1) this.logger.warn('the server cannot be reached; trying again', fields);
    return Math.min(250 * 2 ** Math.min(failures, 8), longestRetryMs);
  }
}
