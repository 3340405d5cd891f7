/**
 * Tickets of one transfer on the two daemons that serve it: the host's and the proxy's.
 *
 * Life and idle time of a ticket are counted by the daemons in real seconds, so nothing here is scaled by the engine's clock.
 * Source: reference "oVirt engine REST API" section 6.4 and "The oVirt image I/O daemon" section 2.
 */
import { randomUUID } from 'node:crypto';
import type { Ticket, TicketState } from '../../hosts/driver';
import type { Core } from '../model/core';
import type { Host, Transfer } from '../model/entities';

/** What a ticket stands for, found by the transfer's source. */
export interface TicketTarget {
  readonly url: string;
  readonly sizeBytes: number;
  readonly dirty: boolean;
  readonly sparse: boolean;
}

/** For transfers that never time out, the daemons still need a socket time-out. */
const LONGEST_IDLE_SECONDS = 3_600;

export class TicketDesk {
  private proxyBaseUrl: string | undefined;

  constructor(private readonly core: Core) {}

  /**
   * A fresh ticket on both daemons. Its id is stored first, so that after a crash in between it can still be taken back. A failure on
   * the second daemon takes back the first.
   */
  async install(transfer: Transfer, host: Host, target: TicketTarget): Promise<Pick<Transfer, 'transferUrl' | 'proxyUrl' | 'sizeBytes'>> {
    const { db, fleet, settings } = this.core;
    const ticketId = randomUUID();
    db.transfers.update(transfer.id, { ticketId });
    await this.core.step('transfer.ticket', transfer.id);
    const hostBaseUrl = await this.hostBaseUrl(host);
    const proxyBaseUrl = await this.startedProxy();
    const transferUrl = `${hostBaseUrl}/images/${ticketId}`;
    const ticket: Ticket = {
      uuid: ticketId,
      sizeBytes: target.sizeBytes,
      url: target.url,
      timeoutSeconds: settings.ticketValiditySeconds,
      inactivityTimeoutSeconds: transfer.inactivityTimeoutSeconds === 0 ? LONGEST_IDLE_SECONDS : transfer.inactivityTimeoutSeconds,
      ops: transfer.direction === 'upload' ? ['write'] : ['read'],
      sparse: target.sparse,
      dirty: target.dirty,
      transferId: transfer.id,
    };
    await fleet.putTicket(host.id, ticket);
    try {
      await fleet.putTicket('proxy', { ...ticket, url: transferUrl });
    } catch (error) {
      await fleet.removeTicket(host.id, ticketId);
      throw error;
    }
    return { transferUrl, proxyUrl: `${proxyBaseUrl}/images/${ticketId}`, sizeBytes: target.sizeBytes };
  }

  /** The host's view; undefined when its daemon does not know the ticket. */
  async look(transfer: Transfer): Promise<TicketState | undefined> {
    return this.core.fleet.ticket(transfer.hostId ?? '', transfer.ticketId ?? '');
  }

  async renew(transfer: Transfer): Promise<void> {
    const { fleet, settings } = this.core;
    await this.core.step('transfer.renew', transfer.id);
    await fleet.extendTicket(transfer.hostId ?? '', transfer.ticketId ?? '', settings.ticketValiditySeconds);
    await fleet.extendTicket('proxy', transfer.ticketId ?? '', settings.ticketValiditySeconds);
  }

  /** Fails while a client still uses the ticket, or when a daemon does not answer; then it is to be tried again. */
  async remove(transfer: Transfer): Promise<void> {
    if (transfer.ticketId === undefined) return;
    await this.core.step('transfer.remove-ticket', transfer.id);
    await this.core.fleet.removeTicket('proxy', transfer.ticketId);
    await this.core.fleet.removeTicket(transfer.hostId ?? '', transfer.ticketId);
  }

  private async hostBaseUrl(host: Host): Promise<string> {
    const known = this.core.db.hosts.get(host.id)?.imageioBaseUrl;
    if (known !== undefined) return known;
    const { baseUrl } = await this.core.fleet.startHost(host.id);
    this.core.db.hosts.update(host.id, { imageioBaseUrl: baseUrl });
    return baseUrl;
  }

  private async startedProxy(): Promise<string> {
    this.proxyBaseUrl ??= (await this.core.fleet.startProxy()).baseUrl;
    return this.proxyBaseUrl;
  }
}
