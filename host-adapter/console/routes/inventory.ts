/** Platforms and VMs. */
import { z } from 'zod';
import * as S from '../schemas';
import type { Route } from './route';

export const inventoryRoutes = {
  platformInspect: {
    method: 'POST',
    path: '/platforms/inspect',
    summary: 'Fetch the CA of an engine, to compare its fingerprint.',
    body: S.PlatformInspectRequest,
    reply: S.PlatformInspection,
    reads: true,
  },
  platformAdd: {
    method: 'POST',
    path: '/platforms',
    summary: 'Connect an engine.',
    body: S.PlatformAddRequest,
    reply: S.Platform,
    status: 201,
  },
  platformList: { method: 'GET', path: '/platforms', summary: 'Connected engines.', reply: S.Lists.platforms },
  platformShow: { method: 'GET', path: '/platforms/:id', summary: 'One engine.', reply: S.Platform },
  platformEdit: {
    method: 'PATCH',
    path: '/platforms/:id',
    summary: 'New credentials or CA fingerprint.',
    body: S.PlatformChange,
    reply: S.Platform,
  },
  platformRemove: { method: 'DELETE', path: '/platforms/:id', summary: 'Forget an engine.' },
  platformRescan: {
    method: 'POST',
    path: '/platforms/:id/rescan',
    summary: 'Read the inventory afresh.',
    reply: S.PlatformRescan,
    reads: true,
  },
  platformTest: {
    method: 'POST',
    path: '/platforms/:id/test',
    summary: 'Connection, version and permission probe.',
    reply: S.PlatformTest,
    reads: true,
  },
  platformTargets: {
    method: 'GET',
    path: '/platforms/:id/targets',
    summary: 'Clusters, storage domains and vNIC profiles to restore to.',
    reply: S.Targets,
  },

  vmList: { method: 'GET', path: '/vms', summary: 'VMs with their protection state.', query: S.VmQuery, reply: S.Lists.vms },
  vmPreflight: {
    method: 'POST',
    path: '/vms/preflight',
    summary: 'Can these VMs be backed up, and how?',
    body: S.PreflightRequest,
    reply: S.Lists.verdicts,
    reads: true,
  },
  vmShow: {
    method: 'GET',
    path: '/vms/:id',
    summary: 'One VM with disks and NICs.',
    query: z.object({ platform: z.string().optional() }),
    reply: S.VmDetail,
  },
} as const satisfies Record<string, Route>;
