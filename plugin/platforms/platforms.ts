/**
 * The connected engines: who they are, how to log in, whether they answer. Owns the list on disk (platform-store.ts) and the one
 * {@link Engine} per platform that everybody uses. Must not know VMs, backups or the host.
 */
import { CommonErrors, toTidemarkError } from '../../common/errors/common-errors';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import type { Logger } from '../../common/log/logger';
import type { Secret } from '../../common/log/redact';
import { Engine } from '../engine/engine';
import { EngineErrors } from '../engine/engine-errors';
import { EngineSession } from '../engine/engine-session';
import { fingerprintOfPem, inspectEngine, normalFingerprint } from '../engine/engine-trust';
import type { EngineInspection } from '../engine/engine-trust';
import type { Engines } from '../tokens';
import { PlatformErrors } from './platform-errors';
import type { Finding } from './permission-probe';
import type { PlatformStore, StoredPlatform } from './platform-store';
import { isTooOld, oldestEngine, testEngine } from './platform-test';

export interface PlatformView {
  readonly platformId: string;
  readonly name: string;
  readonly url: string;
  readonly username: string;
  readonly caFingerprint: string;
  readonly engineVersion: string;
  /** Undefined while the engine answers. */
  readonly unavailable: TidemarkError | undefined;
  readonly lastContactAt: Date | undefined;
}

export interface PutPlatform {
  readonly platformId: string;
  readonly name: string;
  readonly url: string;
  readonly username: string;
  /** Empty keeps the stored one. */
  readonly password: Secret;
  readonly caFingerprint: string;
}

interface Connected {
  stored: StoredPlatform;
  readonly engine: Engine;
  unavailable: TidemarkError | undefined;
}

/** Told when a platform is connected, changed or forgotten. */
export type PlatformListener = (platformId: string, what: 'connected' | 'removed') => void;

export class Platforms implements Engines {
  readonly #connected = new Map<string, Connected>();
  readonly #listeners = new Set<PlatformListener>();
  /** Changes happen one after another: two of the same platform would race for the file and the session. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly store: PlatformStore,
    private readonly logger: Logger,
    /** Why a platform cannot be forgotten now. */
    private readonly inUse: (platformId: string) => string | undefined,
  ) {
    for (const stored of store.load()) this.#add(stored);
  }

  of(platformId: string): Engine {
    return this.#get(platformId).engine;
  }

  platformIds(): readonly string[] {
    return [...this.#connected.keys()];
  }

  list(): readonly PlatformView[] {
    return [...this.#connected.values()].map(view).sort((a, b) => a.name.localeCompare(b.name));
  }

  onChanged(listener: PlatformListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whoever talks to an engine regularly tells how it went; true when that changed whether it answers. */
  note(platformId: string, error: TidemarkError | undefined): boolean {
    const connected = this.#connected.get(platformId);
    if (!connected) return false;
    connected.unavailable = error;
    if (connected.stored.lostCode === error?.code) return false;
    connected.stored = { ...connected.stored, lostCode: error?.code };
    try {
      this.store.save(this.#others(''));
    } catch (thrown) {
      // It is told now, and after a restart perhaps once more, or not that it is back.
      this.logger.warn('whether an engine answers could not be kept', { platformId, error: thrown });
    }
    return true;
  }

  /** Throws PLATFORM_URL_INVALID, ENGINE_UNAVAILABLE. */
  inspect(url: string): Promise<EngineInspection> {
    return inspectEngine(url);
  }

  /** See PlatformService.PutPlatform. Nothing is kept unless the login worked. */
  put(request: PutPlatform, signal: AbortSignal): Promise<PlatformView> {
    return this.#oneByOne(async () => {
      const known = this.#connected.get(request.platformId);
      const password = request.password.reveal() === '' ? known?.stored.password : request.password;
      if (!password) throw CommonErrors.ARGUMENT_INVALID({ field: 'password', problem: 'it is needed when an engine is connected first' });
      const inspection = await inspectEngine(request.url);
      if (normalFingerprint(inspection.fingerprint) !== normalFingerprint(request.caFingerprint)) {
        throw EngineErrors.ENGINE_CERTIFICATE_CHANGED({
          engine: new URL(inspection.url).host,
          expected: request.caFingerprint,
          found: inspection.fingerprint,
        });
      }
      this.#refuseTwin(request.platformId, (other) => other.url === inspection.url);
      const session = new EngineSession({ ...inspection, username: request.username, password }, this.logger);
      const probe = new Engine(session);
      try {
        await probe.login(signal);
        const info = await probe.access.info({ signal });
        if (isTooOld(info.version)) {
          const needed = `${oldestEngine.major}.${oldestEngine.minor}.${oldestEngine.build}`;
          throw EngineErrors.ENGINE_TOO_OLD({ engine: probe.url, version: info.fullVersion, needed });
        }
        this.#refuseTwin(request.platformId, (other) => isSameEngine(other, info.instanceId, inspection.internalCaPem));
        const stored: StoredPlatform = {
          platformId: request.platformId,
          name: request.name,
          url: inspection.url,
          username: request.username,
          password,
          webCaPem: inspection.webCaPem,
          internalCaPem: inspection.internalCaPem,
          engineVersion: info.fullVersion,
          ...(info.instanceId === undefined ? {} : { instanceId: info.instanceId }),
          ...(known?.stored.lostCode === undefined ? {} : { lostCode: known.stored.lostCode }),
        };
        this.store.save([...this.#others(request.platformId), stored]);
        return view(await this.#keep(stored, session, known));
      } catch (error) {
        await session.close();
        throw error;
      }
    });
  }

  /** Fine for unknown ids. Throws PLATFORM_IN_USE. */
  remove(platformId: string): Promise<void> {
    return this.#oneByOne(async () => {
      const connected = this.#connected.get(platformId);
      if (!connected) return;
      const reason = this.inUse(platformId);
      if (reason !== undefined) throw PlatformErrors.PLATFORM_IN_USE({ platformId, reason });
      this.store.save(this.#others(platformId));
      this.#connected.delete(platformId);
      this.#tell(platformId, 'removed');
      await connected.engine.close();
    });
  }

  /** Throws PLATFORM_NOT_FOUND; everything else is a finding. */
  test(platformId: string, signal: AbortSignal): Promise<readonly Finding[]> {
    return testEngine(this.of(platformId), signal);
  }

  /** Logs out everywhere. */
  async close(): Promise<void> {
    await Promise.all(
      [...this.#connected.values()].map(async ({ engine, stored }) => {
        try {
          await engine.close();
        } catch (error) {
          // The process ends; the session idles out in the engine.
          this.logger.debug('closing an engine failed', { platformId: stored.platformId, error: toTidemarkError(error, 'closing') });
        }
      }),
    );
  }

  #get(platformId: string): Connected {
    const connected = this.#connected.get(platformId);
    if (!connected) throw PlatformErrors.PLATFORM_NOT_FOUND({ platformId });
    return connected;
  }

  #add(stored: StoredPlatform, session = new EngineSession(stored, this.logger)): Connected {
    const connected: Connected = { stored, engine: new Engine(session), unavailable: undefined };
    this.#connected.set(stored.platformId, connected);
    return connected;
  }

  async #keep(stored: StoredPlatform, session: EngineSession, known: Connected | undefined): Promise<Connected> {
    const connected = known ?? this.#add(stored, session);
    if (known) {
      known.stored = stored;
      known.unavailable = undefined;
      await known.engine.reconnect(session);
    }
    this.#tell(stored.platformId, 'connected');
    return connected;
  }

  #others(platformId: string): StoredPlatform[] {
    return [...this.#connected.values()].map((one) => one.stored).filter((stored) => stored.platformId !== platformId);
  }

  #refuseTwin(platformId: string, isTwin: (other: StoredPlatform) => boolean): void {
    const twin = this.#others(platformId).find(isTwin);
    if (twin) throw PlatformErrors.PLATFORM_EXISTS({ url: twin.url, platformId: twin.platformId, name: twin.name });
  }

  #tell(platformId: string, what: 'connected' | 'removed'): void {
    for (const listener of this.#listeners) listener(platformId, what);
  }

  #oneByOne<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#changes.then(work, work);
    this.#changes = result.catch(() => undefined);
    return result;
  }
}

/** The installation's id decides; engines that tell none are the same when they have the same CA, which each makes at installation. */
function isSameEngine(other: StoredPlatform, instanceId: string | undefined, internalCaPem: string): boolean {
  if (other.instanceId !== undefined && instanceId !== undefined) return other.instanceId === instanceId;
  return fingerprintOfPem(other.internalCaPem) === fingerprintOfPem(internalCaPem);
}

function view({ stored, engine, unavailable }: Connected): PlatformView {
  return {
    platformId: stored.platformId,
    name: stored.name,
    url: stored.url,
    username: stored.username,
    caFingerprint: fingerprintOfPem(stored.webCaPem),
    engineVersion: stored.engineVersion,
    unavailable,
    lastContactAt: engine.lastContactAt,
  };
}
