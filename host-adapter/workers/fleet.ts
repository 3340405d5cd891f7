/**
 * The workers of all plug-ins, as the plug-ins know them: nothing is kept here, so nothing can be out of date. What takes long is a session
 * (worker-flow.ts). Knows nothing of engines.
 */
import { hasCode } from '../../common/errors/tidemark-error';
import type { GetWorkerImageResponse__Output } from '../../proto/gen/tidemark/plugin/v1/GetWorkerImageResponse';
import type { OrphanWorker__Output } from '../../proto/gen/tidemark/plugin/v1/OrphanWorker';
import type { Worker__Output } from '../../proto/gen/tidemark/plugin/v1/Worker';
import type { PlatformRow } from '../catalogue/platform-store';
import { HostErrors } from '../errors/host-errors';
import type { Platforms } from '../inventory/platforms';
import type { PluginClient, PluginConnections } from '../registry/plugin-connections';
import { policyOf, policyToWire } from './worker-settings';
import type { FleetPolicy } from './worker-settings';

/** Nobody asks again for what an administrator asked: well over a machine that stands still for a while. */
const quickMs = 30_000;
const engineMs = 60_000;

export interface KnownWorker {
  readonly pluginId: string;
  readonly worker: Worker__Output;
}

export interface KnownOrphan {
  readonly pluginId: string;
  readonly orphan: OrphanWorker__Output;
}

export interface KnownImage {
  readonly pluginId: string;
  readonly image: GetWorkerImageResponse__Output;
}

export class Fleet {
  constructor(
    private readonly plugins: PluginConnections,
    private readonly platforms: Platforms,
  ) {}

  async list(): Promise<KnownWorker[]> {
    const found: KnownWorker[] = [];
    for (const client of await this.plugins.usable()) {
      const { workers } = await client.workers.call('ListWorkers', {}, { deadlineMs: quickMs });
      found.push(...workers.map((worker) => ({ pluginId: client.id, worker })));
    }
    return found;
  }

  /** By id, or by name or host name where that is unique. Throws WORKER_UNKNOWN, WORKER_AMBIGUOUS. */
  async find(reference: string): Promise<KnownWorker> {
    const all = await this.list();
    const exact = all.find(({ worker }) => worker.workerId === reference);
    if (exact) return exact;
    const named = all.filter(({ worker }) => worker.name === reference || worker.hostName === reference);
    if (named.length > 1) throw HostErrors.WORKER_AMBIGUOUS({ worker: reference, count: named.length });
    if (!named[0]) throw HostErrors.WORKER_UNKNOWN({ worker: reference });
    return named[0];
  }

  /** No new tasks, or tasks again. Idempotent. Throws as {@link find}. */
  async setDrained(reference: string, drained: boolean): Promise<KnownWorker> {
    const { pluginId, worker } = await this.find(reference);
    const client = await this.plugins.of(pluginId);
    try {
      await client.workers.call(drained ? 'DrainWorker' : 'ResumeWorker', { workerId: worker.workerId }, { deadlineMs: quickMs });
    } catch (error) {
      if (hasCode(error, 'WORKER_NOT_FOUND')) throw HostErrors.WORKER_UNKNOWN({ worker: reference }, { cause: error });
      throw error;
    }
    return this.find(worker.workerId);
  }

  /** Worker VMs that belong to nobody here; read from the engines now. */
  async orphans(): Promise<KnownOrphan[]> {
    const found: KnownOrphan[] = [];
    for (const client of await this.plugins.usable()) {
      const { orphans } = await client.workers.call('ListOrphanWorkers', {}, { deadlineMs: engineMs });
      found.push(...orphans.map((orphan) => ({ pluginId: client.id, orphan })));
    }
    return found;
  }

  /** By the VM's id or name. Throws WORKER_UNKNOWN, WORKER_AMBIGUOUS. */
  async orphan(reference: string): Promise<KnownOrphan> {
    const all = await this.orphans();
    const exact = all.filter(({ orphan }) => orphan.vmId === reference);
    const matching = exact.length > 0 ? exact : all.filter(({ orphan }) => orphan.name === reference);
    if (matching.length > 1) throw HostErrors.WORKER_AMBIGUOUS({ worker: reference, count: matching.length });
    if (!matching[0]) throw HostErrors.WORKER_UNKNOWN({ worker: reference });
    return matching[0];
  }

  /** The images that the plug-ins deploy; those without one are left out. */
  async images(): Promise<KnownImage[]> {
    const found: KnownImage[] = [];
    for (const client of await this.plugins.usable()) {
      try {
        found.push({ pluginId: client.id, image: await imageOf(client) });
      } catch (error) {
        if (!hasCode(error, 'WORKER_IMAGE_MISSING')) throw error;
      }
    }
    return found;
  }

  /** The image of one plug-in. Throws WORKER_IMAGE_MISSING. */
  async image(pluginId: string): Promise<GetWorkerImageResponse__Output> {
    return imageOf(await this.plugins.of(pluginId));
  }

  /** Throws PLATFORM_UNKNOWN. */
  async policy(platform: string): Promise<{ row: PlatformRow; policy: FleetPolicy }> {
    const row = await this.platforms.row(platform);
    const client = await this.plugins.of(row.pluginId);
    const { policy } = await client.workers.call('GetFleetPolicy', { platformId: row.id }, { deadlineMs: quickMs });
    if (!policy) throw HostErrors.PLATFORM_UNKNOWN({ platform });
    return { row, policy: policyOf(policy) };
  }

  /** Replaces some rules. Throws PLATFORM_UNKNOWN, WORKER_SETTINGS_INVALID. */
  async changePolicy(platform: string, change: Partial<FleetPolicy>): Promise<{ row: PlatformRow; policy: FleetPolicy }> {
    const { row, policy } = await this.policy(platform);
    const client = await this.plugins.of(row.pluginId);
    await client.workers.call('PutFleetPolicy', { policy: policyToWire(row.id, { ...policy, ...change }) }, { deadlineMs: quickMs });
    return this.policy(row.id);
  }
}

function imageOf(client: PluginClient): Promise<GetWorkerImageResponse__Output> {
  return client.workers.call('GetWorkerImage', {}, { deadlineMs: quickMs });
}
