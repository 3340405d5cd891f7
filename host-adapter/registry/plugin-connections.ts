import { mutualClientCredentials } from '../../common/tls/credentials';
import type { ProcessIdentity } from '../../common/tls/identity';
import { RpcClient } from '../../common/rpc/call';
import type { IdentityServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/IdentityService';
import type { InventoryServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/InventoryService';
import type { JanitorServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/JanitorService';
import type { PlatformServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/PlatformService';
import type { ProtectionServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/ProtectionService';
import type { WorkerFleetServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/WorkerFleetService';
import { loadService } from '../../proto/loader';
import { HostErrors } from '../errors/host-errors';
import type { PluginRegistry, RegisteredPlugin } from './plugin-registry';

/** The services of one plug-in. */
export interface PluginClient {
  readonly id: string;
  readonly identity: RpcClient<IdentityServiceDefinition>;
  readonly platforms: RpcClient<PlatformServiceDefinition>;
  readonly inventory: RpcClient<InventoryServiceDefinition>;
  readonly protection: RpcClient<ProtectionServiceDefinition>;
  readonly workers: RpcClient<WorkerFleetServiceDefinition>;
  readonly janitor: RpcClient<JanitorServiceDefinition>;
  close(): void;
}

const services = {
  identity: ['identity_service', 'IdentityService'],
  platforms: ['platform_service', 'PlatformService'],
  inventory: ['inventory_service', 'InventoryService'],
  protection: ['protection_service', 'ProtectionService'],
  workers: ['worker_fleet_service', 'WorkerFleetService'],
  janitor: ['janitor_service', 'JanitorService'],
} as const;

/** Clients of plug-ins, kept open per endpoint and process. Calls go only to a plug-in that is enabled and whose lease holds. */
export class PluginConnections {
  readonly #open = new Map<string, { key: string; client: PluginClient }>();

  constructor(
    private readonly registry: PluginRegistry,
    private readonly own: ProcessIdentity,
  ) {}

  /** Throws PLUGIN_NOT_FOUND, PLUGIN_DISABLED, PLUGIN_LOST. */
  async of(pluginId: string): Promise<PluginClient> {
    return this.#client(await this.registry.find(pluginId));
  }

  /** The only usable plug-in, or the one named. Throws as {@link of}, and PLUGIN_AMBIGUOUS. */
  async one(reference: string | undefined): Promise<PluginClient> {
    if (reference !== undefined) return this.of(reference);
    const all = await this.registry.list();
    const enabled = all.filter((plugin) => plugin.enabled);
    const only = enabled.length > 0 ? enabled : all;
    if (only.length > 1) throw HostErrors.PLUGIN_AMBIGUOUS({ count: only.length });
    if (!only[0]) throw HostErrors.PLUGIN_NOT_FOUND({ plugin: 'any' });
    return this.#client(only[0]);
  }

  /** Every plug-in that can be called now. */
  async usable(): Promise<PluginClient[]> {
    const all = await this.registry.list();
    return all.filter((plugin) => plugin.enabled && plugin.connected).map((plugin) => this.#client(plugin));
  }

  close(): void {
    for (const { client } of this.#open.values()) client.close();
    this.#open.clear();
  }

  #client(plugin: RegisteredPlugin): PluginClient {
    const { id } = plugin.identity;
    if (!plugin.enabled) throw HostErrors.PLUGIN_DISABLED({ plugin: id });
    if (!plugin.connected || !plugin.registration) throw HostErrors.PLUGIN_LOST({ plugin: id });
    const { endpoint } = plugin.registration;
    // As of a mover: a channel to the process before would go on with its pauses.
    const key = `${endpoint} ${plugin.process?.bootId ?? ''}`;
    const known = this.#open.get(id);
    if (known?.key === key) return known.client;
    known?.client.close();
    const client = this.#connect(id, endpoint);
    this.#open.set(id, { key, client });
    return client;
  }

  #connect(id: string, endpoint: string): PluginClient {
    const credentials = mutualClientCredentials(this.own, 'plugin');
    const make = <S>(name: keyof typeof services) =>
      new RpcClient<S>(
        loadService(`tidemark/plugin/v1/${services[name][0]}.proto`, `tidemark.plugin.v1.${services[name][1]}`).service,
        endpoint,
        credentials,
      );
    const clients = {
      identity: make<IdentityServiceDefinition>('identity'),
      platforms: make<PlatformServiceDefinition>('platforms'),
      inventory: make<InventoryServiceDefinition>('inventory'),
      protection: make<ProtectionServiceDefinition>('protection'),
      workers: make<WorkerFleetServiceDefinition>('workers'),
      janitor: make<JanitorServiceDefinition>('janitor'),
    };
    return {
      id,
      ...clients,
      close: () => {
        for (const client of Object.values(clients)) client.close();
      },
    };
  }
}
