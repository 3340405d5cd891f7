import { createHash, randomBytes, randomUUID, scrypt, timingSafeEqual } from 'node:crypto';
import fs from 'node:fs';
import { durableWrite } from '../../common/tls/durable-write';
import type { SettingStore } from '../catalogue/setting-store';
import type { UserStore } from '../catalogue/user-store';
import { HostErrors } from '../errors/host-errors';
import type { Throttle } from './throttle';

/** OWASP's minimum for scrypt: N = 2^17, r = 8, p = 1, i.e. 128 MiB and some 300 ms. */
const cost = { N: 131_072, r: 8, p: 1, maxmem: 256 * 1024 * 1024 };

export interface LoggedIn {
  readonly userId: string;
  readonly name: string;
  readonly tokenHash: string;
}

/** Users, passwords (scrypt) and logins (opaque bearer tokens, kept as hashes). */
export class Users {
  constructor(
    private readonly store: UserStore,
    private readonly settings: SettingStore,
    private readonly throttle: Throttle,
    private readonly now: () => Date,
  ) {}

  /** Makes `admin` when there is no user yet; its password goes to a file that only the owner may read. True when made. */
  async ensureAdmin(passwordFile: string): Promise<boolean> {
    if ((await this.store.count()) > 0) return false;
    const password = randomBytes(18).toString('base64url');
    // The file first: a password that nobody can read would lock everybody out.
    fs.rmSync(passwordFile, { force: true });
    durableWrite(passwordFile, `${password}\n`, 0o600);
    await this.store.add({
      id: randomUUID(),
      name: 'admin',
      passwordHash: await hashPassword(password),
      createdAt: this.now().toISOString(),
    });
    return true;
  }

  /** Throws LOGIN_REFUSED, LOGIN_THROTTLED. */
  async login(name: string, password: string, remoteAddress: string): Promise<{ token: string; expiresAt: Date }> {
    const now = this.now();
    if (!this.throttle.allow(remoteAddress, now.getTime())) throw HostErrors.LOGIN_THROTTLED({}, { retryDelayMs: 60_000 });
    const user = await this.store.byName(name);
    // An unknown user costs as much as a wrong password, so that names cannot be guessed by the clock.
    const matches = await passwordMatches(password, user?.passwordHash ?? unusableHash);
    if (!user || !matches) throw HostErrors.LOGIN_REFUSED({});
    this.throttle.forget(remoteAddress);
    const token = `tms_${randomBytes(32).toString('base64url')}`;
    const expiresAt = new Date(now.getTime() + this.settings.current.loginLifetimeMs);
    await this.store.removeExpiredLogins(now.toISOString());
    await this.store.addLogin({
      tokenHash: hashToken(token),
      userId: user.id,
      createdAt: now.toISOString(),
      expiresAt: expiresAt.toISOString(),
    });
    return { token, expiresAt };
  }

  /** Throws LOGIN_REQUIRED. */
  async authenticate(token: string): Promise<LoggedIn> {
    const tokenHash = hashToken(token);
    const found = await this.store.loginByHash(tokenHash, this.now().toISOString());
    if (!found) throw HostErrors.LOGIN_REQUIRED({});
    return { ...found, tokenHash };
  }

  async logout(login: LoggedIn): Promise<void> {
    await this.store.removeLogin(login.tokenHash);
  }

  /** Throws LOGIN_REFUSED when the current password is wrong. */
  async changePassword(login: LoggedIn, current: string, next: string): Promise<void> {
    const user = await this.store.byName(login.name);
    if (!user || !(await passwordMatches(current, user.passwordHash))) throw HostErrors.LOGIN_REFUSED({});
    await this.store.changePassword(user.id, await hashPassword(next), login.tokenHash);
  }
}

const unusableHash = `scrypt$${Buffer.alloc(16).toString('base64')}$${Buffer.alloc(32).toString('base64')}`;

function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  return `scrypt$${salt.toString('base64')}$${(await derive(password, salt)).toString('base64')}`;
}

async function passwordMatches(password: string, stored: string): Promise<boolean> {
  const [, salt = '', hash = ''] = stored.split('$');
  return timingSafeEqual(await derive(password, Buffer.from(salt, 'base64')), Buffer.from(hash, 'base64'));
}

function derive(password: string, salt: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFC'), salt, 32, cost, (error, key) => (error ? reject(error) : resolve(key)));
  });
}
