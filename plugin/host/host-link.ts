/**
 * The plug-in's line to its host: registration, lease, events, certificates. The host may come and go; everything here tries again by
 * itself and nothing else in the process waits for it. Must not know engines or operations.
 * Contract: proto/tidemark/host/v1.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { bytesFromWire, durationFromWire, durationToWire, timestampFromWire } from '../../common/rpc/bytes';
import { RpcClient, pause } from '../../common/rpc/call';
import { mutualClientCredentials } from '../../common/tls/credentials';
import type { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { EnrolmentApplication } from '../../proto/gen/tidemark/common/v1/EnrolmentApplication';
import type { IssuedCertificate__Output } from '../../proto/gen/tidemark/common/v1/IssuedCertificate';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import type { PluginRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/PluginRegistryService';
import type { ProbePath__Output } from '../../proto/gen/tidemark/host/v1/ProbePath';
import { keepCertificate } from './certificate-renewal';
import type { EventOutbox } from './event-outbox';

/** Where others dial; known once the ports are open. */
export interface PluginEndpoints {
  readonly endpoint: string;
  readonly workerEndpoint: string;
  readonly enrolmentEndpoint: string;
}

export interface HostLinkOptions {
  readonly hostEndpoint: string;
  readonly process: ProcessInfo;
  readonly pluginId: string;
  readonly addresses: readonly string[];
  endpoints(): PluginEndpoints;
  runningOperationIds(): readonly string[];
}

export type HostState = 'connecting' | 'registered' | 'refused';

const registry = loadService('tidemark/host/v1/plugin_registry_service.proto', 'tidemark.host.v1.PluginRegistryService').service;
const certificates = loadService('tidemark/host/v1/certificate_service.proto', 'tidemark.host.v1.CertificateService').service;
const registerDeadlineMs = 10_000;
const heartbeatDeadlineMs = 5_000;
const passOnDeadlineMs = 15_000;
const briefDeadlineMs = 5_000;
const defaultLeaseMs = 30_000;
const longestRetryMs = 10_000;
/** Refusals that only an operator can mend are asked about this often. */
const refusedRetryMs = 60_000;
const eventBatch = 100;
const eventReplyMs = 15_000;

export class HostLink implements Service {
  readonly name = 'host-link';
  readonly #stop = new AbortController();
  readonly #registry: RpcClient<PluginRegistryServiceDefinition>;
  readonly #certificates: RpcClient<CertificateServiceDefinition>;
  #running: Promise<unknown> = Promise.resolve();
  #leaseId = '';
  #enabled = false;
  #state: HostState = 'connecting';

  constructor(
    private readonly options: HostLinkOptions,
    private readonly identity: ProcessIdentity,
    private readonly outbox: EventOutbox,
    private readonly logger: Logger,
  ) {
    const credentials = mutualClientCredentials(identity, 'host');
    this.#registry = new RpcClient(registry, options.hostEndpoint, credentials);
    this.#certificates = new RpcClient(certificates, options.hostEndpoint, credentials);
  }

  get state(): HostState {
    return this.#state;
  }

  /** False until an administrator enables the plug-in in the host. */
  get enabled(): boolean {
    return this.#enabled;
  }

  /** Returns at once; the host is looked for in the background. */
  start(): Promise<void> {
    const { signal } = this.#stop;
    this.#running = Promise.all([
      this.#keepLease(signal),
      keepCertificate(this.identity, this.#certificates, this.options.addresses, this.outbox, this.logger, signal),
    ]);
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#registry.close();
    this.#certificates.close();
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

  /** Registers, keeps the lease and sends events until it is lost, and starts over. Never rejects. */
  async #keepLease(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        const leaseMs = await this.#register(signal);
        failures = 0;
        const lost = new AbortController();
        const both = AbortSignal.any([signal, lost.signal]);
        const sending = this.#sendEvents(both);
        try {
          await this.#beat(leaseMs, both);
        } finally {
          lost.abort();
          await sending;
        }
      } catch (thrown) {
        if (signal.aborted) return;
        failures += 1;
        await pause(this.#failed(thrown, failures), signal).catch(() => undefined);
      }
    }
  }

  /** Returns the length of the lease. */
  async #register(signal: AbortSignal): Promise<number> {
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
    this.#state = 'registered';
    this.logger.info('registered with the server', { endpoint: this.options.hostEndpoint, enabled: reply.enabled });
    this.#tellEnabled(reply.enabled);
    return durationFromWire(reply.leaseDuration) ?? defaultLeaseMs;
  }

  /** Heartbeats at a third of the lease. Rejects when the lease is lost, or when no heartbeat got through for its length. */
  async #beat(firstLeaseMs: number, signal: AbortSignal): Promise<void> {
    let leaseMs = firstLeaseMs;
    let until = Date.now() + leaseMs;
    while (!signal.aborted) {
      await pause(Math.max(leaseMs / 3, 100), signal);
      try {
        const reply = await this.#registry.call(
          'Heartbeat',
          { leaseId: this.#leaseId, runningOperationIds: [...this.options.runningOperationIds()] },
          { deadlineMs: heartbeatDeadlineMs, signal },
        );
        leaseMs = durationFromWire(reply.leaseDuration) ?? leaseMs;
        until = Date.now() + leaseMs;
        this.#tellEnabled(reply.enabled);
      } catch (error) {
        if (!hasCode(error, 'PEER_UNAVAILABLE', 'DEADLINE_EXCEEDED') || Date.now() >= until) throw error;
        // One lost heartbeat is why the lease is three times as long.
        this.logger.debug('a heartbeat did not get through', { code: error.code });
      }
    }
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

  /** Notes a failure and returns how long to wait. */
  #failed(thrown: unknown, failures: number): number {
    const error = toTidemarkError(thrown, 'talking to the server');
    const fields = { endpoint: this.options.hostEndpoint, code: error.code, message: error.message };
    if (error.code === 'LEASE_LOST') {
      this.logger.info('the server does not know our lease any more; registering again', fields);
      this.#state = 'connecting';
      return failures > 3 ? longestRetryMs : 0;
    }
    if (hasCode(error, 'CAPABILITY_MISSING', 'PLUGIN_INSTANCE_TAKEN', 'IDENTITY_REVOKED', 'ROLE_NOT_ALLOWED')) {
      if (this.#state !== 'refused') this.logger.error('the server refuses this plug-in', fields);
      this.#state = 'refused';
      return refusedRetryMs;
    }
    if (this.#state === 'registered' || failures === 1) this.logger.warn('the server cannot be reached; trying again', fields);
    this.#state = 'connecting';
    return Math.min(250 * 2 ** Math.min(failures, 8), longestRetryMs);
  }

  #tellEnabled(enabled: boolean): void {
    if (enabled === this.#enabled) return;
    this.#enabled = enabled;
    this.logger.info(enabled ? 'the plug-in was enabled' : 'the plug-in was disabled');
  }
}
