import type { KeyObject } from 'node:crypto';
import { hasCode } from '../../common/errors/tidemark-error';
import { durationToWire, timestampToWire } from '../../common/rpc/bytes';
import { signTicket } from '../../common/tickets/ticket';
import type { TicketRight } from '../../common/tickets/ticket';
import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { Point } from '../../proto/gen/tidemark/mover/v1/Point';
import type { Point__Output } from '../../proto/gen/tidemark/mover/v1/Point';
import { HostErrors } from '../errors/host-errors';
import { longestTicketMs } from '../identity/authority-file';
import type { MoverClient, MoverConnections } from '../registry/mover-connections';
import type { Repositories } from './repositories';

/** A mover session that nobody renews ends after this. */
export const moverLeaseMs = 300_000;
/** A ticket only helps while its session is open, which the host ends; it must outlive the longest backup. */
const ticketLifetimeMs = longestTicketMs;

/** What a session is opened for; the same at every mover that carries it. */
export interface SessionTerms {
  readonly sessionId: string;
  readonly repositoryId: string;
  readonly kind: 'backup' | 'restore';
  readonly pointIds: readonly string[];
}

/** Which session, and of which repository. */
export type SessionPlace = Pick<SessionTerms, 'sessionId' | 'repositoryId'>;

/** Sessions on movers, and the tickets for them. */
export class MoverSessions {
  constructor(
    private readonly repositories: Pick<Repositories, 'at'>,
    private readonly movers: Pick<MoverConnections, 'of' | 'lastKnown'>,
    /** Changes when the CA does. */
    private readonly ticketKey: () => KeyObject,
    private readonly now: () => Date,
  ) {}

  /**
   * Opens a session on a mover, which attaches the repository first where it has to, and signs its ticket. With `takeOver` the session goes on
   * there, whichever mover had it. Throws what SessionService.OpenSession and RepositoryService.AttachRepository say.
   */
  async open(moverId: string, terms: SessionTerms, takeOver: boolean): Promise<DataPath> {
    const { sessionId, repositoryId, kind, pointIds } = terms;
    const mover = await this.repositories.at(repositoryId, moverId);
    const request = {
      sessionId,
      repositoryId,
      kind: kind === 'backup' ? ('SESSION_KIND_BACKUP' as const) : ('SESSION_KIND_RESTORE' as const),
      pointIds: [...pointIds],
      leaseDuration: durationToWire(moverLeaseMs),
      takeOver,
    };
    await this.#ask(mover, terms, () => mover.sessions.call('OpenSession', request, { deadlineMs: 15_000, attempts: 3 }));
    return this.#pathTo(mover, terms);
  }

  /** The way to a session that is open, with a new ticket. Throws MOVER_LOST, MOVER_NOT_FOUND. */
  async pathTo(moverId: string, terms: SessionTerms): Promise<DataPath> {
    return this.#pathTo(await this.movers.of(moverId), terms);
  }

  /** Asks also a mover that lost its lease: it may have been the server that was away. Throws SESSION_NOT_FOUND, SESSION_ENDED, SESSION_ELSEWHERE … */
  async renew(moverId: string, at: SessionPlace): Promise<void> {
    const mover = await this.movers.lastKnown(moverId);
    const request = { sessionId: at.sessionId, leaseDuration: durationToWire(moverLeaseMs) };
    await this.#ask(mover, at, () => mover.sessions.call('RenewSession', request, { deadlineMs: 5_000 }));
  }

  /** Makes the point visible; can be repeated. */
  async commit(
    moverId: string,
    at: SessionPlace,
    content: { readonly point: Point; readonly configuration: string },
    signal: AbortSignal,
  ): Promise<Point__Output> {
    const mover = await this.movers.of(moverId);
    const { sessionId } = at;
    const request = { sessionId, ...content };
    const reply = await this.#ask(mover, at, () => mover.sessions.call('CommitSession', request, { deadlineMs: 120_000, signal }));
    if (!reply.point) throw HostErrors.MOVER_SESSION_LOST({ sessionId });
    return reply.point;
  }

  /** True when the session is committed. */
  async isCommitted(moverId: string, at: SessionPlace): Promise<boolean> {
    const mover = await this.movers.of(moverId);
    const request = { sessionId: at.sessionId };
    try {
      const { state } = await this.#ask(mover, at, () => mover.sessions.call('GetSession', request, { deadlineMs: 5_000 }));
      return state === 'SESSION_STATE_COMMITTED';
    } catch (error) {
      if (hasCode(error, 'SESSION_NOT_FOUND')) return false;
      throw error;
    }
  }

  /** Throws the session away; a committed one is left alone, and one that another mover has. */
  async abort(moverId: string, sessionId: string): Promise<void> {
    const mover = await this.movers.lastKnown(moverId);
    try {
      await mover.sessions.call('AbortSession', { sessionId }, { deadlineMs: 15_000, attempts: 2 });
    } catch (error) {
      if (!hasCode(error, 'SESSION_ENDED', 'SESSION_NOT_FOUND', 'SESSION_ELSEWHERE')) throw error;
    }
  }

  /**
   * A mover that lost its lease on the repository, or was restarted while the store was away, knows neither it nor its sessions until it has it again. It may
   * also lose it between the look whether it has it and what is asked.
   */
  async #ask<T>({ id }: MoverClient, { repositoryId }: SessionPlace, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      if (!hasCode(error, 'SESSION_NOT_FOUND', 'REPOSITORY_NOT_FOUND')) throw error;
      await this.repositories.at(repositoryId, id);
      return ask();
    }
  }

  #pathTo(mover: MoverClient, { sessionId, repositoryId, kind, pointIds }: SessionTerms): DataPath {
    const expiresAt = new Date(this.now().getTime() + ticketLifetimeMs);
    const rights: TicketRight[] = kind === 'backup' ? ['write'] : ['read'];
    const ticket = signTicket({ sessionId, repositoryId, rights, expiresAt, pointIds }, this.ticketKey());
    return {
      endpoints: [...mover.dataEndpoints],
      serverName: '',
      ticket,
      sessionId,
      repositoryId,
      expiresAt: timestampToWire(expiresAt),
    };
  }
}
