import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { RpcClient } from '../../common/rpc/call';
import { loadService } from '../../proto/loader';
import type { IdentityServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/IdentityService';
import type { InventoryServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/InventoryService';
import type { PlatformServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/PlatformService';
import { serveIdentity } from '../grpc/identity-service';
import { serveInventory } from '../grpc/inventory-service';
import { servePlatforms } from '../grpc/platform-service';
import { Inventory } from '../inventory/inventory';
import { ObservedCertificates } from '../platforms/observed-certificates';
import { PlatformStore } from '../platforms/platform-store';
import { Platforms } from '../platforms/platforms';
import type { ReportedEvent } from '../tokens';
import { quietLogger } from './quiet-logger';
import { secureServer } from './secure-server';

const folder = 'tidemark/plugin/v1';

/** The real services Identity, Platform and Inventory over mutual TLS, with a data folder that goes away at the end. */
export async function pluginFixture(timing = { pollMs: 100, refreshMs: 60_000 }) {
  const dataFolder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-plugin-'));
  const log = quietLogger();
  const events: ReportedEvent[] = [];
  const use = { reason: undefined as string | undefined };
  const platforms = new Platforms(new PlatformStore(dataFolder), log.logger, () => use.reason);
  const inventory = new Inventory(platforms, { report: (event) => events.push(event) }, timing, log.logger);
  await inventory.start();
  const options = { logger: log.logger, domain: 'plugin' };
  const process = { instanceId: 'i', bootId: 'b', version: '0.1.0', protocols: ['tidemark.plugin.v1'], capabilities: [], hostName: 'h' };
  const server = await secureServer((grpc) => {
    serveIdentity(grpc, { process, pluginId: 'ovirt', displayName: 'oVirt' }, options);
    servePlatforms(grpc, platforms, new ObservedCertificates(platforms, { imageioPort: 1, imageioProxyPort: 1 }, log.logger), options);
    serveInventory(grpc, inventory, options);
  });
  const clients: { close(): void }[] = [];
  const client = async <S>(file: string, service: string, role: 'host' | 'worker') => {
    const definition = loadService(`${folder}/${file}.proto`, `tidemark.plugin.v1.${service}`).service;
    const made = new RpcClient<S>(definition, server.endpoint, await server.credentialsFor(role, `${role}-1`));
    clients.push(made);
    return made;
  };
  return {
    dataFolder,
    platforms,
    events,
    use,
    log,
    identity: (role: 'host' | 'worker' = 'host') => client<IdentityServiceDefinition>('identity_service', 'IdentityService', role),
    platform: (role: 'host' | 'worker' = 'host') => client<PlatformServiceDefinition>('platform_service', 'PlatformService', role),
    inventory: (role: 'host' | 'worker' = 'host') => client<InventoryServiceDefinition>('inventory_service', 'InventoryService', role),
    [Symbol.asyncDispose]: async () => {
      for (const one of clients) one.close();
      server[Symbol.dispose]();
      await inventory.stop();
      await platforms.close();
      fs.rmSync(dataFolder, { recursive: true, force: true });
    },
  };
}
