import { randomUUID } from 'node:crypto';
import { CommonErrors } from '../../common/errors/common-errors';
import { splitEndpoint } from '../../common/tls/enrolment';
import type { RegisterMoverRequest__Output } from '../../proto/gen/tidemark/host/v1/RegisterMoverRequest';
import type { IdentityRow, IdentityStore } from '../catalogue/identity-store';
import type { MoverRow, ProcessStore } from '../catalogue/process-store';
import { HostErrors } from '../errors/host-errors';
import { checkProcess, leaseFrom, leaseHolds } from './leases';
import type { StoredProcess } from './leases';

export interface RegisteredMover {
  readonly identity: IdentityRow;
  readonly registration: MoverRow | undefined;
  readonly process: StoredProcess | undefined;
  readonly connected: boolean;
  /** Carries data to repositories that no mover of their own serves. */
  readonly gateway: boolean;
  /** Since when it takes no new sessions; null: it takes them. */
  readonly drainingSince: string | null;
}

/** What a mover says of itself when it was set up as a gateway; an administrator's word goes before it. */
const gatewayCapability = 'gateway';

/** Movers and their leases. */
export class MoverRegistry {
  readonly #listeners = new Set<(moverId: string) => void>();

  constructor(
    private readonly identities: IdentityStore,
    private readonly processes: ProcessStore,
    private readonly now: () => Date,
    readonly leaseMs: number,
  ) {}

  /** Throws CAPABILITY_MISSING, IDENTITY_REVOKED, ARGUMENT_INVALID. */
  async register(id: string, request: RegisterMoverRequest__Output): Promise<{ leaseId: string }> {
    const { instanceId, ...process } = checkProcess(request.process, 'tidemark.mover.v1');
    for (const endpoint of [request.controlEndpoint, ...request.dataEndpoints]) splitEndpoint(endpoint);
    const identity = await this.identities.identity(id);
    if (!identity || identity.revokedAt !== null) throw CommonErrors.IDENTITY_REVOKED({ id });
    const known = await this.processes.mover(id);
    const leaseId = known && leaseHolds(known, this.now()) && known.instanceId === instanceId ? known.leaseId : randomUUID();
    await this.processes.putMover({
      id,
      instanceId,
      processJson: JSON.stringify(process),
      controlEndpoint: request.controlEndpoint,
      dataEndpointsJson: JSON.stringify(request.dataEndpoints),
      leaseId,
      ...this.#lease(),
    });
    for (const listener of this.#listeners) listener(id);
    return { leaseId };
  }

  /** Throws LEASE_LOST. */
  async heartbeat(id: string, leaseId: string): Promise<void> {
    const row = await this.processes.mover(id);
    if (!row || row.leaseId !== leaseId || !leaseHolds(row, this.now())) throw CommonErrors.LEASE_LOST({ leaseId });
    const { leaseExpiresAt, lastSeenAt } = this.#lease();
    await this.processes.renewMover(id, leaseExpiresAt, lastSeenAt);
  }

  async list(): Promise<RegisteredMover[]> {
    const rows = new Map((await this.processes.movers()).map((row) => [row.id, row]));
    const rules = new Map((await this.processes.moverRules()).map((rule) => [rule.id, rule]));
    return (await this.identities.identities('mover'))
      .filter((identity) => identity.revokedAt === null)
      .map((identity) => {
        const registration = rows.get(identity.id);
        const rule = rules.get(identity.id);
        const process = registration && (JSON.parse(registration.processJson) as StoredProcess);
        const ruled = rule?.gateway ?? null;
        return {
          identity,
          registration,
          process,
          connected: registration !== undefined && leaseHolds(registration, this.now()),
          gateway: ruled === null ? process?.capabilities.includes(gatewayCapability) === true : ruled !== 0,
          drainingSince: rule?.drainingSince ?? null,
        };
      });
  }

  /** By id, or host name where that is unique. Throws MOVER_NOT_FOUND, MOVER_AMBIGUOUS. */
  async find(reference: string): Promise<RegisteredMover> {
    const all = await this.list();
    const exact = all.find((mover) => mover.identity.id === reference);
    if (exact) return exact;
    const similar = all.filter(
      (mover) =>
        (mover.process?.hostName ?? mover.identity.hostName) === reference ||
        (reference.length >= 8 && mover.identity.id.startsWith(reference)),
    );
    if (similar.length > 1) throw HostErrors.MOVER_AMBIGUOUS({ count: similar.length });
    if (!similar[0]) throw HostErrors.MOVER_NOT_FOUND({ mover: reference });
    return similar[0];
  }

  /** True while a mover keeps its lease. */
  async isConnected(id: string): Promise<boolean> {
    const row = await this.processes.mover(id);
    return row !== undefined && leaseHolds(row, this.now());
  }

  /** By id, also of one that has a token and did not enrol yet. */
  async setGateway(id: string, gateway: boolean): Promise<void> {
    await this.processes.ruleMover(id, { gateway: gateway ? 1 : 0 });
  }

  /** No new sessions, or sessions again. Idempotent. Throws as {@link find}. */
  async setDraining(reference: string, draining: boolean): Promise<RegisteredMover> {
    const { identity, drainingSince } = await this.find(reference);
    const since = draining ? (drainingSince ?? this.now().toISOString()) : null;
    await this.processes.ruleMover(identity.id, { drainingSince: since });
    return this.find(identity.id);
  }

  /** Called when a mover registered. */
  onRegistered(listener: (moverId: string) => void): void {
    this.#listeners.add(listener);
  }

  #lease(): { leaseExpiresAt: string; lastSeenAt: string } {
    return leaseFrom(this.now(), this.leaseMs);
  }
}
