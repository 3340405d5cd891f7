/**
 * Platforms and their VMs, as the plug-ins know them. Owns only which plug-in has which platform; everything else is asked for, so
 * nothing here can be out of date. Knows nothing of engines.
 */
import { randomUUID } from 'node:crypto';
import type { Platform__Output } from '../../proto/gen/tidemark/plugin/v1/Platform';
import type { ListTargetsResponse__Output } from '../../proto/gen/tidemark/plugin/v1/ListTargetsResponse';
import type { PlatformStore, PlatformRow } from '../catalogue/platform-store';
import { HostErrors } from '../errors/host-errors';
import { isTransient } from '../jobs/task-context';
import type { PluginClient, PluginConnections } from '../registry/plugin-connections';

export interface PlatformRequest {
  readonly name: string;
  readonly url: string;
  readonly username: string;
  readonly password: string;
  readonly caFingerprint: string;
}

const quickMs = 30_000;
const engineMs = 60_000;

export class Platforms {
  constructor(
    private readonly store: PlatformStore,
    private readonly plugins: PluginConnections,
  ) {}

  async inspect(url: string, plugin: string | undefined) {
    const client = await this.plugins.one(plugin);
    return client.platforms.call('InspectPlatform', { url }, { deadlineMs: 25_000 });
  }

  /** Throws NAME_TAKEN and what PlatformService.PutPlatform says. */
  async add(request: PlatformRequest, plugin: string | undefined): Promise<{ row: PlatformRow; platform: Platform__Output }> {
    const client = await this.plugins.one(plugin);
    if (await this.store.find(request.name)) throw HostErrors.NAME_TAKEN({ what: 'platform', name: request.name });
    const platformId = randomUUID();
    const reply = await client.platforms.call('PutPlatform', { platformId, ...request }, { deadlineMs: engineMs });
    const row = { id: platformId, name: request.name, pluginId: client.id };
    await this.store.put(row);
    return { row, platform: present(reply.platform, request.name) };
  }

  async change(
    reference: string,
    change: { username?: string | undefined; password?: string | undefined; caFingerprint?: string | undefined },
  ) {
    const { row, platform } = await this.show(reference);
    const client = await this.plugins.of(row.pluginId);
    const reply = await client.platforms.call(
      'PutPlatform',
      {
        platformId: row.id,
        name: row.name,
        url: platform.url,
        username: change.username ?? platform.username,
        password: change.password ?? '',
        caFingerprint: change.caFingerprint ?? platform.caFingerprint,
      },
      { deadlineMs: engineMs },
    );
    return { row, platform: present(reply.platform, reference) };
  }

  /** Every platform of every plug-in that answers; a plug-in's own list heals what this side forgot. */
  async list(): Promise<{ row: PlatformRow; platform: Platform__Output | undefined }[]> {
    const rows = new Map((await this.store.all()).map((row) => [row.id, row]));
    const found = new Map<string, Platform__Output>();
    for (const client of await this.plugins.usable()) {
      for (const platform of await platformsOf(client).catch(noneWhileAway)) {
        found.set(platform.platformId, platform);
        if (rows.get(platform.platformId)?.pluginId === client.id) continue;
        const taken = [...rows.values()].some((row) => row.name === platform.name && row.id !== platform.platformId);
        const row = { id: platform.platformId, name: taken ? platform.platformId : platform.name, pluginId: client.id };
        await this.store.put(row);
        rows.set(row.id, row);
      }
    }
    return [...rows.values()].map((row) => ({ row, platform: found.get(row.id) }));
  }

  async show(reference: string): Promise<{ row: PlatformRow; platform: Platform__Output }> {
    const row = await this.row(reference);
    const client = await this.plugins.of(row.pluginId);
    return {
      row,
      platform: present(
        (await platformsOf(client)).find((platform) => platform.platformId === row.id),
        reference,
      ),
    };
  }

  async remove(reference: string): Promise<void> {
    const row = await this.row(reference);
    const client = await this.plugins.of(row.pluginId);
    await client.platforms.call('RemovePlatform', { platformId: row.id }, { deadlineMs: 15_000 });
    await this.store.remove(row.id);
  }

  async test(reference: string) {
    const row = await this.row(reference);
    return (await this.plugins.of(row.pluginId)).platforms.call('TestPlatform', { platformId: row.id }, { deadlineMs: engineMs });
  }

  async rescan(reference: string): Promise<number> {
    const row = await this.row(reference);
    const client = await this.plugins.of(row.pluginId);
    return (await client.inventory.call('RescanPlatform', { platformId: row.id }, { deadlineMs: 120_000 })).vmCount;
  }

  async targets(reference: string): Promise<ListTargetsResponse__Output> {
    const row = await this.row(reference);
    const client = await this.plugins.of(row.pluginId);
    return client.inventory.call('ListTargets', { platformId: row.id }, { deadlineMs: 30_000 });
  }

  /** The plug-in of a platform. Throws PLATFORM_UNKNOWN, PLUGIN_LOST, PLUGIN_DISABLED. */
  async pluginOf(platformId: string): Promise<PluginClient> {
    return this.plugins.of((await this.row(platformId)).pluginId);
  }

  /** By id or name. Throws PLATFORM_UNKNOWN. */
  async row(reference: string): Promise<PlatformRow> {
    const known = (await this.store.find(reference)) ?? (await this.list()).map((one) => one.row).find((row) => row.id === reference);
    if (!known) throw HostErrors.PLATFORM_UNKNOWN({ platform: reference });
    return known;
  }

  /** The one named, or the only one. Throws PLATFORM_UNKNOWN, PLATFORM_AMBIGUOUS. */
  async one(reference: string | undefined): Promise<PlatformRow> {
    if (reference !== undefined) return this.row(reference);
    const all = await this.store.all();
    if (all.length > 1) throw HostErrors.PLATFORM_AMBIGUOUS({ count: all.length });
    if (!all[0]) throw HostErrors.PLATFORM_UNKNOWN({ platform: 'any' });
    return all[0];
  }
}

async function platformsOf(client: PluginClient): Promise<Platform__Output[]> {
  return (await client.platforms.call('ListPlatforms', {}, { deadlineMs: quickMs })).platforms;
}

/** A plug-in that keeps its lease for now and does not answer: the others' platforms are listed all the same. */
function noneWhileAway(error: unknown): Platform__Output[] {
  if (isTransient(error)) return [];
  throw error;
}

function present(platform: Platform__Output | null | undefined, reference: string): Platform__Output {
  if (!platform) throw HostErrors.PLATFORM_UNKNOWN({ platform: reference });
  return platform;
}
