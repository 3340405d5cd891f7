/**
 * What the connected engines hold, kept fresh: a full reading now and then, and in between the VMs that the engine's events name. Owns the
 * cache and one watcher per platform; must not know backups. Also the first to notice when an engine goes away or comes back.
 */
import { toTidemarkError } from '../../common/errors/common-errors';
import { hasCode } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { within } from '../../common/lifecycle/lifecycle';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import { pause } from '../../common/rpc/call';
import type { Engine } from '../engine/engine';
import { PlatformErrors } from '../platforms/platform-errors';
import type { Platforms } from '../platforms/platforms';
import type { EventReporter } from '../tokens';
import { InventoryCache } from './inventory-cache';
import type { Page } from './inventory-cache';
import { InventoryReader } from './inventory-reader';
import { recordOf, sumOf } from './vm-record';
import type { VmRecord } from './vm-record';
import type { Vm } from '../engine/vms';

export interface InventoryTiming {
  readonly pollMs: number;
  readonly refreshMs: number;
}

/** A VM read afresh, with the names that its NICs refer to. */
export interface VmDetails {
  readonly record: VmRecord;
  readonly vm: Vm;
  readonly profileNames: ReadonlyMap<string, { readonly name: string; readonly networkName: string }>;
}

export interface TargetView {
  readonly id: string;
  readonly name: string;
  readonly dataCenterId: string;
  readonly freeBytes: number;
  readonly detail: string;
}

export interface TargetsView {
  readonly clusters: readonly TargetView[];
  readonly storageDomains: readonly TargetView[];
  readonly vnicProfiles: readonly TargetView[];
  readonly hosts: readonly TargetView[];
}

/** A listing waits this long for a platform that was never read. */
const firstReadMs = 20_000;
/** Missing VMs that are looked up one by one before they count as removed; a page boundary may have skipped them. */
const mostLookUps = 20;
/** States that VMs stay in. */
const settledStates = new Set(['up', 'down', 'paused', 'suspended', 'unknown', 'not_responding']);
/** Moving VMs that are looked at again at each poll; the others wait for the next full reading. */
const mostMoving = 400;
const longestPauseMs = 60_000;
const mostEvents = 2000;

class PlatformWatcher {
  readonly stop = new AbortController();
  readonly reader: InventoryReader;
  /** Settles at the first successful or failed reading. */
  readonly firstRead: Promise<void>;
  readAt: Date | undefined;
  failure: TidemarkError | undefined;
  eventIndex = 0;
  running: Promise<unknown> = Promise.resolve();
  #settle: () => void = () => undefined;

  constructor(
    readonly platformId: string,
    readonly engine: Engine,
  ) {
    this.reader = new InventoryReader(platformId, engine);
    this.firstRead = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  settled(failure: TidemarkError | undefined): void {
    this.failure = failure;
    this.#settle();
  }
}

export class Inventory implements Service {
  readonly name = 'inventory';
  readonly cache = new InventoryCache();
  readonly #watchers = new Map<string, PlatformWatcher>();
  #unsubscribe: () => void = () => undefined;

  constructor(
    private readonly platforms: Platforms,
    private readonly events: EventReporter,
    private readonly timing: InventoryTiming,
    private readonly logger: Logger,
  ) {}

  start(): Promise<void> {
    this.#unsubscribe = this.platforms.onChanged((platformId, what) => {
      this.#forget(platformId, what === 'removed');
      if (what === 'connected') this.#watch(platformId);
    });
    for (const platformId of this.platforms.platformIds()) this.#watch(platformId);
    return Promise.resolve();
  }

  stop(): Promise<void> {
    this.#unsubscribe();
    for (const platformId of [...this.#watchers.keys()]) this.#forget(platformId, false);
    return Promise.resolve();
  }

  /**
   * A page of VMs and when the oldest part was read. Throws PLATFORM_NOT_FOUND, PAGE_TOKEN_INVALID; the engine's error when the one
   * platform asked for was never read.
   */
  async list(platformId: string, pageSize: number, pageToken: string, signal: AbortSignal): Promise<Page & { readAt: Date | undefined }> {
    if (platformId !== '') this.platforms.of(platformId);
    const asked = [...this.#watchers.values()].filter((watcher) => platformId === '' || watcher.platformId === platformId);
    await Promise.all(asked.filter((watcher) => !watcher.readAt).map((watcher) => this.#firstRead(watcher, signal)));
    const [only] = asked;
    if (platformId !== '' && only && !only.readAt && only.failure) throw only.failure;
    const times = asked.flatMap((watcher) => watcher.readAt?.getTime() ?? []);
    return { ...this.cache.page(platformId, pageSize, pageToken), readAt: times.length === 0 ? undefined : new Date(Math.min(...times)) };
  }

  /** Read afresh. Throws PLATFORM_NOT_FOUND, VM_NOT_FOUND, errors of the engine. */
  async get(platformId: string, vmId: string, signal: AbortSignal): Promise<VmDetails> {
    const engine = this.platforms.of(platformId);
    const vm = await this.#readVm(engine, platformId, vmId, signal);
    const [clusters, profiles, networks] = await Promise.all([
      engine.clusters.list({ signal }),
      engine.networks.vnicProfiles({ signal }),
      engine.networks.list({ signal }),
    ]);
    const networkNames = new Map(networks.map((network) => [network.id, network.name]));
    const cluster = clusters.find((one) => one.id === vm.clusterId);
    const record = recordOf(platformId, vm, cluster, sumOf((vm.diskAttachments ?? []).flatMap((attachment) => attachment.disk ?? [])));
    if (this.#watchers.get(platformId)?.readAt) this.cache.put([record]);
    return {
      record,
      vm,
      profileNames: new Map(
        profiles.map((profile) => [profile.id, { name: profile.name, networkName: networkNames.get(profile.networkId ?? '') ?? '' }]),
      ),
    };
  }

  /** Where VMs and disks can be restored to, and workers be put. */
  async targets(platformId: string, signal: AbortSignal): Promise<TargetsView> {
    const engine = this.platforms.of(platformId);
    const [clusters, centers, profiles, networks, hosts] = await Promise.all([
      engine.clusters.list({ signal }),
      engine.dataCenters.list({ signal }),
      engine.networks.vnicProfiles({ signal }),
      engine.networks.list({ signal }),
      engine.hosts.list({ signal }),
    ]);
    const domains = await Promise.all(
      centers.map(async (center) => ({ center, domains: await engine.storageDomains.listOfDataCenter(center.id, { signal }) })),
    );
    const networkById = new Map(networks.map((network) => [network.id, network]));
    return {
      clusters: clusters.map(({ id, name, dataCenterId }) => ({ id, name, dataCenterId: dataCenterId ?? '', freeBytes: 0, detail: '' })),
      storageDomains: domains.flatMap(({ center, domains: found }) =>
        found
          .filter((domain) => domain.type === 'data' && !domain.backup)
          .map((domain) => ({
            id: domain.id,
            name: domain.name,
            dataCenterId: center.id,
            freeBytes: domain.availableBytes ?? 0,
            detail: domain.status ?? '',
          })),
      ),
      vnicProfiles: profiles.map((profile) => {
        const network = networkById.get(profile.networkId ?? '');
        return { id: profile.id, name: profile.name, dataCenterId: network?.dataCenterId ?? '', freeBytes: 0, detail: network?.name ?? '' };
      }),
      hosts: hosts.map(({ id, name, status, clusterId }) => ({
        id,
        name,
        dataCenterId: clusters.find((cluster) => cluster.id === clusterId)?.dataCenterId ?? '',
        freeBytes: 0,
        detail: status ?? '',
      })),
    };
  }

  /** Reads everything again now; returns the number of VMs. Throws PLATFORM_NOT_FOUND, errors of the engine. */
  async rescan(platformId: string, signal: AbortSignal): Promise<number> {
    this.platforms.of(platformId);
    const watcher = this.#watchers.get(platformId);
    if (!watcher) throw PlatformErrors.PLATFORM_NOT_FOUND({ platformId });
    await this.#oneByOne(watcher, () => this.#readAll(watcher, AbortSignal.any([signal, watcher.stop.signal])));
    return this.cache.count(platformId);
  }

  async #readVm(engine: Engine, platformId: string, vmId: string, signal: AbortSignal): Promise<Vm> {
    try {
      return await engine.vms.get(vmId, { signal, with: ['diskAttachments', 'nics', 'tags'] });
    } catch (error) {
      if (hasCode(error, 'ENGINE_NOT_FOUND')) throw PlatformErrors.VM_NOT_FOUND({ platformId, vmId }, { cause: error });
      throw error;
    }
  }

  async #firstRead(watcher: PlatformWatcher, signal: AbortSignal): Promise<void> {
    try {
      await within(Promise.race([watcher.firstRead, aborted(signal)]), firstReadMs, 'the first reading of the engine');
    } catch (error) {
      // A large engine that is still being read: the page shows what is there.
      this.logger.debug('listing before the first reading ended', { platformId: watcher.platformId, error });
    }
  }

  #watch(platformId: string): void {
    const watcher = new PlatformWatcher(platformId, this.platforms.of(platformId));
    this.#watchers.set(platformId, watcher);
    void this.#loop(watcher);
  }

  #forget(platformId: string, removed: boolean): void {
    this.#watchers.get(platformId)?.stop.abort();
    this.#watchers.delete(platformId);
    if (removed) this.cache.remove(platformId, this.cache.vmIds(platformId));
  }

  /** Never rejects; ends when the watcher is stopped. */
  async #loop(watcher: PlatformWatcher): Promise<void> {
    const { signal } = watcher.stop;
    let failures = 0;
    let fullAt = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      try {
        const full = performance.now() >= fullAt;
        const complete = await this.#oneByOne(watcher, async () => {
          if (!full) return this.#readChanged(watcher, signal);
          await this.#readAll(watcher, signal);
          return true;
        });
        if (full) fullAt = performance.now() + this.timing.refreshMs;
        if (!complete) fullAt = Number.NEGATIVE_INFINITY;
        failures = 0;
        this.#went(watcher, undefined);
        if (!complete) continue;
      } catch (thrown) {
        if (signal.aborted) break;
        failures += 1;
        // Events may be missed while the engine is away.
        fullAt = Number.NEGATIVE_INFINITY;
        this.#went(watcher, toTidemarkError(thrown, 'reading the inventory'));
      }
      const delay = failures === 0 ? this.timing.pollMs : Math.min(this.timing.pollMs * 2 ** Math.min(failures - 1, 6), longestPauseMs);
      await pause(delay, signal).catch(() => undefined);
    }
    watcher.settled(watcher.failure);
  }

  #went(watcher: PlatformWatcher, failure: TidemarkError | undefined): void {
    watcher.settled(failure);
    if (!this.platforms.note(watcher.platformId, failure)) return;
    const references = { platform_id: watcher.platformId };
    if (failure) {
      this.logger.warn('the engine went away', { platformId: watcher.platformId, code: failure.code, message: failure.message });
      this.events.report({ severity: 'error', code: 'PLATFORM_LOST', message: failure.message, references });
    } else {
      this.logger.info('the engine answers again', { platformId: watcher.platformId });
      this.events.report({
        severity: 'info',
        code: 'PLATFORM_BACK',
        message: `The engine ${watcher.engine.url} answers again.`,
        references,
      });
    }
  }

  #oneByOne<T>(watcher: PlatformWatcher, work: () => Promise<T>): Promise<T> {
    const result = watcher.running.then(work, work);
    watcher.running = result.catch(() => undefined);
    return result;
  }

  async #readAll(watcher: PlatformWatcher, signal: AbortSignal): Promise<void> {
    const { platformId, engine } = watcher;
    // Before the reading: what happens during it is then read again.
    const [newest] = await engine.events.list({ max: 1, signal });
    const startedAt = new Date();
    const records = await watcher.reader.readAll(signal);
    const seen = new Set(records.map((record) => record.vmId));
    const missing = [...this.cache.vmIds(platformId)].filter((vmId) => !seen.has(vmId));
    const skipped = missing.length > 0 && missing.length <= mostLookUps ? await watcher.reader.readSome(missing, signal) : [];
    const still = new Set(skipped.map((record) => record.vmId));
    if (signal.aborted) return;
    this.cache.put([...records, ...skipped]);
    this.cache.remove(
      platformId,
      missing.filter((vmId) => !still.has(vmId)),
    );
    watcher.eventIndex = newest?.index ?? 0;
    watcher.readAt = startedAt;
  }

  /** False when there were more events than could be read: then everything has to be read. */
  async #readChanged(watcher: PlatformWatcher, signal: AbortSignal): Promise<boolean> {
    const { platformId, engine } = watcher;
    const startedAt = new Date();
    const { events, complete } = await engine.events.since(watcher.eventIndex, { max: mostEvents, signal });
    if (!complete) return false;
    const gone = new Set(events.flatMap((event) => (event.vmId === undefined && event.vmName !== undefined ? event.vmName : [])));
    const named = gone.size === 0 ? [] : this.cache.vmIdsWhere(platformId, (record) => gone.has(record.name));
    // Not every change of status has an event: a VM on its way somewhere is looked at until it got there.
    const moving = this.cache.vmIdsWhere(platformId, (record) => !settledStates.has(record.status)).slice(0, mostMoving);
    const touched = [...new Set([...events.flatMap((event) => event.vmId ?? []), ...named, ...moving])];
    if (touched.length > 0) {
      const records = await watcher.reader.readSome(touched, signal);
      const there = new Set(records.map((record) => record.vmId));
      if (signal.aborted) return true;
      this.cache.put(records);
      this.cache.remove(
        platformId,
        touched.filter((vmId) => !there.has(vmId)),
      );
    }
    watcher.eventIndex = events.at(-1)?.index ?? watcher.eventIndex;
    watcher.readAt = startedAt;
    return true;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
