import { timestampFromWire } from '../../common/rpc/bytes';
import type { PointStore } from '../catalogue/point-store';
import type { SessionStore } from '../catalogue/session-store';
import type { Platforms } from '../inventory/platforms';
import { VirtualMachines } from '../inventory/virtual-machines';
import { selectVms } from '../jobs/selector';
import type { Handlers } from './handler-types';
import { platformView, verdictView, vmView } from './views';
import type { ProtectionFacts } from './views';

type Names =
  | `platform${'Inspect' | 'Add' | 'List' | 'Show' | 'Edit' | 'Remove' | 'Rescan' | 'Test' | 'Targets'}`
  | `vm${'List' | 'Preflight' | 'Show'}`
  | 'jobPreview';

const failuresCountMs = 30 * 86_400_000;

/** Platforms and VMs. */
export function inventoryHandlers(parts: {
  readonly platforms: Platforms;
  readonly vms: VirtualMachines;
  readonly points: PointStore;
  readonly sessions: SessionStore;
  readonly now: () => Date;
}): Pick<Handlers, Names> {
  const { platforms, vms, points, sessions, now } = parts;
  const facts = async (): Promise<ProtectionFacts> => ({
    points: await points.perVm(),
    failed: await sessions.failedVms(new Date(now().getTime() - failuresCountMs)),
    now: now(),
  });
  const platformIds = async () => new Map((await platforms.list()).map(({ row }) => [row.name, row.id]));
  return {
    platformInspect: async ({ body }) => {
      const found = await platforms.inspect(body.url, body.plugin);
      const { url, caFingerprint, caSubject } = found;
      return { url, caFingerprint, caSubject, caExpiresAt: timestampFromWire(found.caExpiresAt)?.toISOString() ?? null };
    },
    platformAdd: async ({ body: { plugin, ...request } }) => {
      const { row, platform } = await platforms.add(request, plugin);
      return platformView(row, platform);
    },
    platformList: async () => ({ items: (await platforms.list()).map(({ row, platform }) => platformView(row, platform)) }),
    platformShow: async ({ id }) => {
      const { row, platform } = await platforms.show(id);
      return platformView(row, platform);
    },
    platformEdit: async ({ id, body }) => {
      const { row, platform } = await platforms.change(id, body);
      return platformView(row, platform);
    },
    platformRemove: ({ id }) => platforms.remove(id),
    platformRescan: async ({ id }) => ({ vmCount: await platforms.rescan(id) }),
    platformTest: async ({ id }) => {
      const { findings } = await platforms.test(id);
      return { passed: findings.every((finding) => finding.passed), findings };
    },
    platformTargets: async ({ id }) => {
      const targets = await platforms.targets(id);
      const view = (list: typeof targets.clusters) => list.map((target) => ({ ...target, freeBytes: Number(target.freeBytes) }));
      const { clusters, storageDomains, vnicProfiles, hosts } = targets;
      return { clusters: view(clusters), storageDomains: view(storageDomains), vnicProfiles: view(vnicProfiles), hosts: view(hosts) };
    },

    vmList: async ({ query }) => {
      const known = await facts();
      const all = await vms.list(query.platform);
      const selected = query.select === undefined ? all : selectVms(all, { include: [query.select], exclude: [] }, await platformIds());
      const seen = selected
        .map((vm) => vmView(vm, known))
        .filter((vm) => query.protection === undefined || vm.protection.state === query.protection);
      const at = /^\d{1,9}$/.test(query.pageToken ?? '') ? Number(query.pageToken) : 0;
      const next = at + query.limit;
      return { items: seen.slice(at, next), nextPageToken: next < seen.length ? String(next) : null };
    },
    vmPreflight: async ({ body }) => {
      const byPlatform = new Map<string, string[]>();
      const all = await vms.list(body.platform);
      for (const reference of body.vms) {
        const vm = VirtualMachines.pick(all, reference);
        byPlatform.set(vm.platformId, [...(byPlatform.get(vm.platformId) ?? []), vm.vmId]);
      }
      const items = [];
      for (const [platformId, ids] of byPlatform) {
        const plugin = await platforms.pluginOf(platformId);
        const request = { vms: ids.map((vmId) => ({ platformId, vmId })) };
        const { verdicts } = await plugin.protection.call('Preflight', request, { deadlineMs: 60_000 });
        items.push(...verdicts.map(verdictView));
      }
      return { items };
    },
    vmShow: async ({ id, query }) => {
      const vm = await vms.find(id, query.platform);
      const detail = await vms.show(vm);
      return {
        ...vmView(detail.vm ?? vm, await facts()),
        disks: detail.disks.map(({ diskId, readOnly: _, ...disk }) => ({
          ...disk,
          id: diskId,
          provisionedBytes: Number(disk.provisionedBytes),
          actualBytes: Number(disk.actualBytes),
        })),
        nics: detail.nics.map(({ nicId, ...nic }) => ({ ...nic, id: nicId })),
      };
    },

    jobPreview: async ({ body }) => {
      const known = await facts();
      return { items: selectVms(await vms.list(), body.selector, await platformIds()).map((vm) => vmView(vm, known)) };
    },
  };
}
