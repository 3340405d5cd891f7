/**
 * The plug-in's line to its host: registration, lease, events, certificates. The host may come and go; everything here tries again by
 * itself and nothing else in the process waits for it. Must not know engines or operations.
 * Contract: proto/tidemark/host/v1.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { bytesFromWire, durationFromWire, durationToWire, timestampFromWire } from '../../common/rpc/bytes';
import { RpcClient, pause } from '../../common/rpc/call';
import { LeaseKeeper } from '../../common/rpc/lease-keeper';
import type { LeaseState } from '../../common/rpc/lease-keeper';
import { CertificateKeeper } from '../../common/tls/certificate-keeper';
import { mutualClientCredentials } from '../../common/tls/credentials';
import { diagnoseAtHost } from '../../common/tls/diagnose-at-host';
import { HostCertificates } from '../../common/tls/host-certificates';
import type { ProcessIdentity } from '../../common/tls/identity';
import { trustStateOf } from '../../common/tls/trust-state';
import { loadService } from '../../proto/loader';
import type { EnrolmentApplication } from '../../proto/gen/tidemark/common/v1/EnrolmentApplication';
import type { IssuedCertificate__Output } from '../../proto/gen/tidemark/common/v1/IssuedCertificate';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { PluginRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/PluginRegistryService';
import type { ProbePath__Output } from '../../proto/gen/tidemark/host/v1/ProbePath';
import { eventBatch } from './event-outbox';
import type { EventOutbox } from './event-outbox';
import { WorkerTrust } from './worker-trust';
import type { TrustingWorkers } from './worker-trust';

/** Where others dial; known once the ports are open. */
export interface PluginEndpoints {
  readonly endpoint: string;
  readonly workerEndpoint: string;
  readonly enrolmentEndpoint: string;
}

export interface HostLinkOptions {
  readonly hostEndpoint: string;
  /** Of the server; undefined when it is not configured (any more). */
  readonly enrolmentEndpoint?: string | undefined;
  readonly process: ProcessInfo;
  readonly pluginId: string;
  readonly addresses: readonly string[];
  endpoints(): PluginEndpoints;
  runningOperationIds(): readonly string[];
  /** Workers to pass trust on to. */
  readonly workers: TrustingWorkers;
  /** How long the host may take to answer a heartbeat; 5 s. */
  readonly heartbeatDeadlineMs?: number;
}

const registry = loadService('tidemark/host/v1/plugin_registry_service.proto', 'tidemark.host.v1.PluginRegistryService').service;
const registerDeadlineMs = 10_000;
const defaultHeartbeatDeadlineMs = 5_000;
const passOnDeadlineMs = 15_000;
const briefDeadlineMs = 5_000;
const longestRetryMs = 10_000;
/** A worker reports what it made of new trust about so soon. */
const workerReportMs = 1_500;
const eventReplyMs = 15_000;

export class HostLink implements Service {
  readonly name = 'host-link';
  readonly #stop = new AbortController();
  readonly #registry: RpcClient<PluginRegistryServiceDefinition>;
  readonly #issuer: HostCertificates;
  readonly #certificates: CertificateKeeper;
  readonly #workerTrust: WorkerTrust;
  readonly #lease: LeaseKeeper;
  #running: Promise<unknown> = Promise.resolve();
  #leaseId = '';
  #unfollow: () => void = () => undefined;
  #listening: NodeJS.Timeout | undefined;
  #enabled = false;

  constructor(
    private readonly options: HostLinkOptions,
    private readonly identity: ProcessIdentity,
    private readonly outbox: EventOutbox,
    private readonly logger: Logger,
  ) {
    const { hostEndpoint } = options;
    this.#registry = new RpcClient(registry, hostEndpoint, mutualClientCredentials(identity, 'host'));
    this.#issuer = new HostCertificates(hostEndpoint, identity, options.addresses);
    this.#certificates = new CertificateKeeper(identity, this.#issuer, logger, (message) =>
      outbox.report({ severity: 'error', code: 'CERTIFICATE_RENEWAL_FAILING', message }),
    );
    this.#workerTrust = new WorkerTrust(options.workers, identity);
    const holder = {
      register: (signal: AbortSignal) => this.#register(signal),
      beat: (signal: AbortSignal) => this.#beat(signal),
      whileHeld: (signal: AbortSignal) => this.#sendEvents(signal),
      diagnose: () => diagnoseAtHost(hostEndpoint, options.enrolmentEndpoint, identity),
    };
    this.#lease = new LeaseKeeper(hostEndpoint, holder, logger);
  }

  get state(): LeaseState {
    return this.#lease.state;
  }

  /** False until an administrator enables the plug-in in the host. */
  get enabled(): boolean {
    return this.#enabled;
  }

  /** Returns at once; the host is looked for in the background. */
  start(): Promise<void> {
    this.#unfollow = this.identity.onReplaced(() => this.#lease.beatNow());
    this.#running = this.#lease.run(this.#stop.signal);
    return this.#certificates.start();
  }

  async stop(): Promise<void> {
    this.#unfollow();
    clearTimeout(this.#listening);
    this.#stop.abort();
    await Promise.all([this.#running, this.#certificates.stop()]);
    this.#registry.close();
    this.#issuer.close();
  }

  /** See PluginRegistryService.EnrolWorker. */
  enrolWorker(application: EnrolmentApplication): Promise<{ certificate: IssuedCertificate__Output | null; workerId: string }> {
    return this.#registry.call('EnrolWorker', { application }, { deadlineMs: passOnDeadlineMs, signal: this.#stop.signal });
  }

  /** See PluginRegistryService.RenewWorkerCertificate. */
  async renewWorkerCertificate(workerId: string, certificateRequestPem: string): Promise<IssuedCertificate__Output | null> {
    const settings = { deadlineMs: passOnDeadlineMs, signal: this.#stop.signal };
    return (await this.#registry.call('RenewWorkerCertificate', { workerId, certificateRequestPem }, settings)).certificate;
  }

  /** See PluginRegistryService.CreateWorkerToken. An empty id: a new worker. */
  async createWorkerToken(
    requestId: string,
    workerId: string,
    lifetimeMs: number,
  ): Promise<{ token: string; workerId: string; expiresAt: Date | undefined }> {
    const request = { requestId, workerId, lifetime: durationToWire(lifetimeMs) };
    const reply = await this.#registry.call('CreateWorkerToken', request, this.#brief);
    return { token: reply.token, workerId: reply.workerId, expiresAt: timestampFromWire(reply.expiresAt) };
  }

  /** See PluginRegistryService.RevokeWorker. */
  async revokeWorker(workerId: string): Promise<void> {
    await this.#registry.call('RevokeWorker', { workerId }, this.#brief);
  }

  /** See PluginRegistryService.CreateProbePaths. */
  async createProbePaths(): Promise<readonly ProbePath__Output[]> {
    return (await this.#registry.call('CreateProbePaths', {}, this.#brief)).paths;
  }

  get #brief() {
    return { deadlineMs: briefDeadlineMs, attempts: 3, signal: this.#stop.signal };
  }

  async #register(signal: AbortSignal): Promise<number | undefined> {
    const { endpoint, workerEndpoint, enrolmentEndpoint } = this.options.endpoints();
    const reply = await this.#registry.call(
      'RegisterPlugin',
      {
        process: this.options.process,
        pluginId: this.options.pluginId,
        endpoint,
        workerEndpoint,
        workerEnrolmentEndpoint: enrolmentEndpoint,
      },
      { deadlineMs: registerDeadlineMs, signal },
    );
    this.#leaseId = reply.leaseId;
    this.outbox.resumeAfter(bytesFromWire(reply.acknowledgedEventSequence, 'acknowledged_event_sequence'));
    this.#tellEnabled(reply.enabled);
    return durationFromWire(reply.leaseDuration);
  }

  async #beat(signal: AbortSignal): Promise<number | undefined> {
    const trust = trustStateOf(this.identity);
    const runningOperationIds = [...this.options.runningOperationIds()];
    const request = { leaseId: this.#leaseId, runningOperationIds, trust, workers: this.#workerTrust.states() };
    const { heartbeatDeadlineMs: deadlineMs = defaultHeartbeatDeadlineMs } = this.options;
    const reply = await this.#registry.call('Heartbeat', request, { deadlineMs, signal });
    this.#tellEnabled(reply.enabled);
    this.#certificates.obey(reply.trust, trust.serialNumber);
    if (this.#workerTrust.passOn(reply.workers)) {
      clearTimeout(this.#listening);
      this.#listening = setTimeout(() => this.#lease.beatNow(), workerReportMs);
    }
    return durationFromWire(reply.leaseDuration);
  }

  /** Sends what is reported, in order, until the lease is lost. Never rejects: what is not acknowledged is sent again after registration. */
  async #sendEvents(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      await this.outbox.waitForEvent(signal);
      if (signal.aborted) return;
      try {
        await this.#sendPending(signal);
        failures = 0;
      } catch (thrown) {
        if (signal.aborted) return;
        const error = toTidemarkError(thrown, 'sending events');
        failures += 1;
        this.logger.debug('events were not taken', { code: error.code, pending: this.outbox.pending });
        await pause(Math.min(500 * 2 ** failures, longestRetryMs), signal).catch(() => undefined);
      }
    }
  }

  async #sendPending(signal: AbortSignal): Promise<void> {
    const stream = this.#registry.duplex('StreamEvents', { idleTimeoutMs: eventReplyMs, signal });
    try {
      let events = this.outbox.take(eventBatch);
      await stream.send({ leaseId: this.#leaseId, events });
      for await (const reply of stream.replies) {
        this.outbox.acknowledge(bytesFromWire(reply.acknowledgedSequence, 'acknowledged_sequence'));
        const last = Number(events.at(-1)?.sequence ?? 0);
        if (bytesFromWire(reply.acknowledgedSequence, 'acknowledged_sequence') < last) continue;
        events = this.outbox.take(eventBatch);
        if (events.length === 0) return;
        await stream.send({ leaseId: this.#leaseId, events });
      }
    } finally {
      stream.cancel();
    }
  }

  #tellEnabled(enabled: boolean): void {
    if (enabled === this.#enabled) return;
    this.#enabled = enabled;
    this.logger.info(enabled ? 'the plug-in was enabled' : 'the plug-in was disabled');
  }
}
