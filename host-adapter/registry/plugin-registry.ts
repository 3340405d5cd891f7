/**
 * Registry: which plug-ins and movers there are, whether they are connected (leases) and enabled, and the way to call them. Serves
 * host.v1. Knows nothing of jobs or repositories.
 */
import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import type { PluginEvent__Output } from '../../proto/gen/tidemark/host/v1/PluginEvent';
import type { RegisterPluginRequest__Output } from '../../proto/gen/tidemark/host/v1/RegisterPluginRequest';
import { redactText } from '../../common/log/redact';
import { timestampFromWire } from '../../common/rpc/bytes';
import { splitEndpoint } from '../../common/tls/enrolment';
import type { EventStore, NewEvent } from '../catalogue/event-store';
import type { IdentityRow, IdentityStore } from '../catalogue/identity-store';
import type { PluginRow, ProcessStore } from '../catalogue/process-store';
import { HostErrors } from '../errors/host-errors';
import { checkProcess, leaseFrom, leaseHolds } from './leases';
import type { StoredProcess } from './leases';

/** A plug-in as the registry knows it. */
export interface RegisteredPlugin {
  readonly identity: IdentityRow;
  readonly registration: PluginRow | undefined;
  readonly process: StoredProcess | undefined;
  readonly enabled: boolean;
  readonly connected: boolean;
}

export class PluginRegistry {
  readonly #listeners = new Set<(pluginId: string) => void>();

  constructor(
    private readonly identities: IdentityStore,
    private readonly processes: ProcessStore,
    private readonly events: EventStore,
    private readonly now: () => Date,
    readonly leaseMs: number,
  ) {}

  /** Throws CAPABILITY_MISSING, PLUGIN_INSTANCE_TAKEN, IDENTITY_REVOKED, ARGUMENT_INVALID. */
  async register(id: string, request: RegisterPluginRequest__Output): Promise<{ leaseId: string; enabled: boolean; acknowledged: number }> {
    const { instanceId, ...process } = checkProcess(request.process, 'tidemark.plugin.v1');
    for (const endpoint of [request.endpoint, request.workerEndpoint, request.workerEnrolmentEndpoint]) splitEndpoint(endpoint);
    const identity = await this.#identity(id);
    const taken = await this.processes.pluginByInstance(instanceId);
    if (taken && taken.id !== id) {
      const holder = await this.identities.identity(taken.id);
      if (holder?.revokedAt === null) throw HostErrors.PLUGIN_INSTANCE_TAKEN({ instanceId, id: taken.id });
      // The same process under a new identity, after the one of before was revoked.
      await this.processes.removePlugin(taken.id);
    }
    const known = await this.processes.plugin(id);
    const leaseId = known && known.instanceId === instanceId && leaseHolds(known, this.now()) ? known.leaseId : randomUUID();
    await this.processes.putPlugin({
      id,
      instanceId,
      pluginId: request.pluginId,
      processJson: JSON.stringify(process),
      endpoint: request.endpoint,
      workerEndpoint: request.workerEndpoint,
      workerEnrolmentEndpoint: request.workerEnrolmentEndpoint,
      leaseId,
      ...this.#lease(),
      acknowledgedEvent: known?.acknowledgedEvent ?? 0,
    });
    this.#changed(id);
    return { leaseId, enabled: identity.enabled !== 0, acknowledged: known?.acknowledgedEvent ?? 0 };
  }

  /** Throws LEASE_LOST. */
  async heartbeat(id: string, leaseId: string): Promise<{ enabled: boolean }> {
    const row = await this.#withLease(id, leaseId);
    const { leaseExpiresAt, lastSeenAt } = this.#lease();
    await this.processes.renewPlugin(row.id, leaseExpiresAt, lastSeenAt);
    return { enabled: (await this.#identity(id)).enabled !== 0 };
  }

  /** Stores events that are new; returns how far they go. Throws LEASE_LOST, EVENT_SEQUENCE_GAP. */
  async takeEvents(id: string, leaseId: string, sent: readonly PluginEvent__Output[]): Promise<number> {
    const row = await this.#withLease(id, leaseId);
    let acknowledged = row.acknowledgedEvent;
    const fresh: NewEvent[] = [];
    for (const event of sent) {
      const sequence = Number(event.sequence);
      if (sequence <= acknowledged) continue;
      if (sequence !== acknowledged + 1) throw HostErrors.EVENT_SEQUENCE_GAP({ expected: acknowledged + 1, found: sequence });
      acknowledged = sequence;
      fresh.push({
        at: timestampFromWire(event.occurredAt) ?? this.now(),
        source: `plugin:${id}`,
        severity: severities[event.severity] ?? 'info',
        code: event.code.slice(0, 100),
        message: redactText(event.message.slice(0, 4000)),
        references: event.references,
      });
    }
    if (fresh.length > 0 && !(await this.events.addFromPlugin(id, fresh, row.acknowledgedEvent, acknowledged))) {
      // A stream of before stored some of them just now.
      return this.takeEvents(id, leaseId, sent);
    }
    return acknowledged;
  }

  async list(): Promise<RegisteredPlugin[]> {
    const rows = new Map((await this.processes.plugins()).map((row) => [row.id, row]));
    return (await this.identities.identities('plugin'))
      .filter((identity) => identity.revokedAt === null)
      .map((identity) => this.#view(identity, rows.get(identity.id)));
  }

  /** By id, by host name or kind where that is unique. Throws PLUGIN_NOT_FOUND, PLUGIN_AMBIGUOUS. */
  async find(reference: string): Promise<RegisteredPlugin> {
    const all = await this.list();
    const exact = all.find((plugin) => plugin.identity.id === reference);
    if (exact) return exact;
    const similar = all.filter(
      (plugin) =>
        plugin.registration?.pluginId === reference ||
        plugin.identity.hostName === reference ||
        (reference.length >= 8 && plugin.identity.id.startsWith(reference)),
    );
    if (similar.length > 1) throw HostErrors.PLUGIN_AMBIGUOUS({ count: similar.length });
    if (!similar[0]) throw HostErrors.PLUGIN_NOT_FOUND({ plugin: reference });
    return similar[0];
  }

  async setEnabled(id: string, enabled: boolean): Promise<void> {
    await this.identities.setEnabled(id, enabled);
    this.#changed(id);
  }

  /** Called when a plug-in registered, or was enabled or disabled. */
  onChanged(listener: (pluginId: string) => void): void {
    this.#listeners.add(listener);
  }

  #view(identity: IdentityRow, registration: PluginRow | undefined): RegisteredPlugin {
    return {
      identity,
      registration,
      process: registration && (JSON.parse(registration.processJson) as StoredProcess),
      enabled: identity.enabled !== 0,
      connected: registration !== undefined && leaseHolds(registration, this.now()),
    };
  }

  async #identity(id: string): Promise<IdentityRow> {
    const identity = await this.identities.identity(id);
    if (!identity || identity.revokedAt !== null) throw CommonErrors.IDENTITY_REVOKED({ id });
    return identity;
  }

  async #withLease(id: string, leaseId: string): Promise<PluginRow> {
    const row = await this.processes.plugin(id);
    if (!row || row.leaseId !== leaseId || !leaseHolds(row, this.now())) throw CommonErrors.LEASE_LOST({ leaseId });
    return row;
  }

  #lease(): { leaseExpiresAt: string; lastSeenAt: string } {
    return leaseFrom(this.now(), this.leaseMs);
  }

  #changed(id: string): void {
    for (const listener of this.#listeners) listener(id);
  }
}

const severities: Readonly<Record<string, NewEvent['severity']>> = {
  EVENT_SEVERITY_INFO: 'info',
  EVENT_SEVERITY_WARNING: 'warning',
  EVENT_SEVERITY_ERROR: 'error',
};
