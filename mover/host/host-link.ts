/**
 * The mover's line to its host: registration, lease, ticket keys, certificates. The host may come and go; sessions and the data port go on without
 * it. Contract: proto/tidemark/host/v1.
 */
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { durationFromWire } from '../../common/rpc/bytes';
import { RpcClient } from '../../common/rpc/call';
import { LeaseKeeper } from '../../common/rpc/lease-keeper';
import { CertificateKeeper } from '../../common/tls/certificate-keeper';
import { mutualClientCredentials } from '../../common/tls/credentials';
import { diagnoseAtHost } from '../../common/tls/diagnose-at-host';
import { HostCertificates } from '../../common/tls/host-certificates';
import type { ProcessIdentity } from '../../common/tls/identity';
import { trustStateOf } from '../../common/tls/trust-state';
import { loadService } from '../../proto/loader';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { MoverRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/MoverRegistryService';
import type { KnownTicketKeys } from './known-ticket-keys';

export interface HostLinkOptions {
  readonly hostEndpoint: string;
  /** Of the server; undefined when it is not configured (any more). */
  readonly enrolmentEndpoint?: string | undefined;
  readonly process: ProcessInfo;
  readonly addresses: readonly string[];
  /** Where others dial; known once the ports are open. */
  endpoints(): { readonly controlEndpoint: string; readonly dataEndpoints: readonly string[] };
}

const registry = loadService('tidemark/host/v1/mover_registry_service.proto', 'tidemark.host.v1.MoverRegistryService').service;
const registerDeadlineMs = 10_000;
const heartbeatDeadlineMs = 5_000;

export class HostLink implements Service {
  readonly name = 'host link';
  private readonly stopping = new AbortController();
  private readonly registry: RpcClient<MoverRegistryServiceDefinition>;
  private readonly issuer: HostCertificates;
  private readonly certificates: CertificateKeeper;
  private readonly lease: LeaseKeeper;
  private running: Promise<unknown> = Promise.resolve();
  private leaseId = '';
  private unfollow: () => void = () => undefined;

  constructor(
    private readonly options: HostLinkOptions,
    private readonly identity: ProcessIdentity,
    private readonly keys: KnownTicketKeys,
    logger: Logger,
  ) {
    const { hostEndpoint } = options;
    this.registry = new RpcClient(registry, hostEndpoint, mutualClientCredentials(identity, 'host'));
    this.issuer = new HostCertificates(hostEndpoint, identity, options.addresses);
    this.certificates = new CertificateKeeper(identity, this.issuer, logger);
    const holder = {
      register: (signal: AbortSignal) => this.register(signal),
      beat: (signal: AbortSignal) => this.beat(signal),
      diagnose: () => diagnoseAtHost(hostEndpoint, options.enrolmentEndpoint, identity),
    };
    this.lease = new LeaseKeeper(hostEndpoint, holder, logger);
  }

  /** Returns at once; the host is looked for in the background. */
  async start(): Promise<void> {
    this.unfollow = this.identity.onReplaced(() => this.lease.beatNow());
    this.running = this.lease.run(this.stopping.signal);
    await this.certificates.start();
  }

  async stop(): Promise<void> {
    this.unfollow();
    this.stopping.abort();
    await Promise.all([this.running, this.certificates.stop()]);
    this.registry.close();
    this.issuer.close();
  }

  private async register(signal: AbortSignal): Promise<number | undefined> {
    const { controlEndpoint, dataEndpoints } = this.options.endpoints();
    const request = { process: this.options.process, controlEndpoint, dataEndpoints: [...dataEndpoints] };
    const reply = await this.registry.call('RegisterMover', request, { deadlineMs: registerDeadlineMs, signal });
    this.leaseId = reply.leaseId;
    this.keys.replace(reply.ticketPublicKeysPem);
    return durationFromWire(reply.leaseDuration);
  }

  private async beat(signal: AbortSignal): Promise<number | undefined> {
    const trust = trustStateOf(this.identity);
    const reply = await this.registry.call('MoverHeartbeat', { leaseId: this.leaseId, trust }, { deadlineMs: heartbeatDeadlineMs, signal });
    // The keys first: the host signs with a new one when it has heard that its order was obeyed.
    this.keys.replace(reply.ticketPublicKeysPem);
    this.certificates.obey(reply.trust, trust.serialNumber);
    return durationFromWire(reply.leaseDuration);
  }
}
