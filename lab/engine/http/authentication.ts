import { randomBytes } from 'node:crypto';
import type { EngineClock } from '../model/clock';
import type { Database } from '../model/database';
import type { ActionGroup, Session, User } from '../model/entities';
import type { EngineSettings } from '../model/settings';

/**
 * Who a request is from. Tokens live in the database, so a restart of the engine keeps them, as the real one does; they idle out,
 * and the control endpoint can drop them.
 */
export class Authentication {
  constructor(
    private readonly db: Database,
    private readonly clock: EngineClock,
    private readonly settings: EngineSettings,
  ) {}

  /** The account of `user@profile`, or undefined for an unknown name, a wrong password or a locked account. */
  verify(userName: string, password: string): User | undefined {
    const at = userName.lastIndexOf('@');
    if (at <= 0 || at === userName.length - 1) {
      return undefined;
    }
    return this.db.users.find((user) => user.userName === userName && user.password === password && !user.locked);
  }

  open(user: User): Session {
    return this.db.sessions.put({ id: randomBytes(64).toString('base64url'), userId: user.id, lastUsedAt: this.clock.now() });
  }

  close(token: string): void {
    this.db.sessions.delete(token);
  }

  /** The account behind a token; an idle session is gone. */
  resolve(token: string): User | undefined {
    const session = this.db.sessions.get(token);
    if (!session) {
      return undefined;
    }
    const idleMs = this.clock.now() - session.lastUsedAt;
    const user = this.db.users.get(session.userId);
    if (idleMs > this.settings.sessionIdleMinutes * 60_000 || !user) {
      this.db.sessions.delete(token);
      return undefined;
    }
    // Not written for every request: a few seconds of precision are enough and spare the log.
    if (idleMs > 5_000) {
      this.db.sessions.update(token, { lastUsedAt: this.clock.now() });
    }
    return user;
  }

  permitsOf(user: User): ReadonlySet<ActionGroup> {
    return new Set(user.roleIds.flatMap((id) => this.db.roles.get(id)?.permits ?? []));
  }

  isAdministrator(user: User): boolean {
    return user.roleIds.some((id) => this.db.roles.get(id)?.administrative === true);
  }
}
