import type { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { timestampToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import type { ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { InventoryServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/InventoryService';
import type { Target } from '../../proto/gen/tidemark/plugin/v1/Target';
import type { Vm as WireVm } from '../../proto/gen/tidemark/plugin/v1/Vm';
import type { VmDisk } from '../../proto/gen/tidemark/plugin/v1/VmDisk';
import type { VmNic } from '../../proto/gen/tidemark/plugin/v1/VmNic';
import type { WatchInventoryResponse } from '../../proto/gen/tidemark/plugin/v1/WatchInventoryResponse';
import type { Inventory, TargetView, VmDetails } from '../inventory/inventory';
import type { InventoryCache } from '../inventory/inventory-cache';
import type { VmRecord } from '../inventory/vm-record';

const definition = loadService('tidemark/plugin/v1/inventory_service.proto', 'tidemark.plugin.v1.InventoryService').service;

const defaultPageSize = 200;
const largestPageSize = 1000;
/** The contract promises a message each 15 s. */
const idleMs = 10_000;

/** What the engines hold, for the host. */
export function serveInventory(server: Server, inventory: Inventory, options: ServeOptions): void {
  serve<InventoryServiceDefinition>(
    server,
    definition,
    {
      ListVms: {
        roles: ['host'],
        unary: async (request, { signal }) => {
          const page = await inventory.list(request.platformId, pageSizeOf(request.pageSize), request.pageToken, signal);
          return {
            vms: page.vms.map(vmToWire),
            nextPageToken: page.nextPageToken,
            readAt: page.readAt ? timestampToWire(page.readAt) : null,
          };
        },
      },
      GetVm: {
        roles: ['host'],
        unary: async (request, { signal }) => {
          const details = await inventory.get(request.platformId, request.vmId, signal);
          return { vm: vmToWire(details.record), disks: disksToWire(details), nics: nicsToWire(details) };
        },
      },
      ListTargets: {
        roles: ['host'],
        unary: async (request, { signal }) => {
          const targets = await inventory.targets(request.platformId, signal);
          return {
            clusters: targets.clusters.map(targetToWire),
            storageDomains: targets.storageDomains.map(targetToWire),
            vnicProfiles: targets.vnicProfiles.map(targetToWire),
            hosts: targets.hosts.map(targetToWire),
          };
        },
      },
      WatchInventory: { roles: ['host'], serverStream: (request, { signal }) => watch(inventory.cache, request.cursor, signal) },
      RescanPlatform: {
        roles: ['host'],
        unary: async (request, { signal }) => ({ vmCount: await inventory.rescan(request.platformId, signal) }),
      },
    },
    options,
  );
}

/** Changes after the cursor, for ever; `reset` first when the cursor cannot be continued (also when there is none yet). */
async function* watch(cache: InventoryCache, from: string, signal: AbortSignal): AsyncGenerator<WatchInventoryResponse> {
  let cursor = from;
  while (!signal.aborted) {
    const changes = cache.changesAfter(cursor);
    if (!changes) {
      cursor = cache.cursor;
      yield { cursor, reset: {}, change: 'reset' };
      continue;
    }
    for (const change of changes) {
      cursor = cache.cursorOf(change);
      yield 'changed' in change
        ? { cursor, changed: vmToWire(change.changed), change: 'changed' }
        : { cursor, removed: change.removed, change: 'removed' };
    }
    if (changes.length === 0 && !(await cache.waitForChange(idleMs, signal)) && !signal.aborted) yield { cursor, idle: {}, change: 'idle' };
  }
}

function pageSizeOf(asked: number): number {
  if (asked === 0) return defaultPageSize;
  if (asked < 0 || asked > largestPageSize) {
    throw CommonErrors.ARGUMENT_INVALID({ field: 'page_size', problem: `must be 1 to ${largestPageSize}` });
  }
  return asked;
}

function vmToWire(record: VmRecord): WireVm {
  return { ...record, tags: [...record.tags], provisionedBytes: String(record.provisionedBytes) };
}

function disksToWire({ vm }: VmDetails): VmDisk[] {
  return (vm.diskAttachments ?? []).map(({ diskId, disk, interface: bus, bootable, active, readOnly }) => ({
    diskId,
    name: disk?.name ?? '',
    provisionedBytes: String(disk?.provisionedBytes ?? 0),
    actualBytes: String(disk?.totalBytes ?? 0),
    format: disk?.format ?? '',
    sparse: disk?.sparse ?? false,
    status: disk?.status ?? '',
    storageDomainId: disk?.storageDomainId ?? '',
    storageType: disk?.storageType ?? '',
    interface: bus,
    bootable,
    active,
    shareable: disk?.shareable ?? false,
    readOnly,
  }));
}

function nicsToWire({ vm, profileNames }: VmDetails): VmNic[] {
  return (vm.nics ?? []).map((nic) => {
    const profile = profileNames.get(nic.vnicProfileId ?? '');
    return {
      nicId: nic.id,
      name: nic.name,
      macAddress: nic.macAddress ?? '',
      vnicProfileId: nic.vnicProfileId ?? '',
      vnicProfileName: profile?.name ?? '',
      networkName: profile?.networkName ?? '',
      interface: nic.interface,
      plugged: nic.plugged,
      linked: nic.linked,
    };
  });
}

function targetToWire(target: TargetView): Target {
  return { ...target, freeBytes: String(target.freeBytes) };
}
