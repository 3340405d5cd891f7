/** Platforms and VMs. */
import { z } from 'zod';
import { bytes, Failure, itemName, named, optionalTime, Paging, reference } from './common';
import { Check } from './server';

export const PlatformInspectRequest = z.object({ url: z.string().max(500), plugin: reference.optional() });
export const PlatformInspection = z.object({
  url: z.string(),
  caFingerprint: z.string(),
  caSubject: z.string(),
  caExpiresAt: optionalTime,
});
export const PlatformAddRequest = z.object({
  name: itemName,
  url: z.string().max(500),
  username: z.string().min(1).max(255),
  password: z.string().min(1).max(1024),
  /** As confirmed by the administrator; from inspect. */
  caFingerprint: z.string().max(200),
  plugin: reference.optional(),
});
export const PlatformChange = z.object({
  username: z.string().min(1).max(255).optional(),
  password: z.string().min(1).max(1024).optional(),
  caFingerprint: z.string().max(200).optional(),
});
export const Platform = named(
  'Platform',
  z.object({
    id: z.string(),
    name: z.string(),
    pluginId: z.string(),
    url: z.string(),
    username: z.string(),
    caFingerprint: z.string(),
    engineVersion: z.string(),
    /** null while the engine answers. */
    unavailable: Failure.nullable(),
    lastContactAt: optionalTime,
  }),
);
export const PlatformTest = z.object({ passed: z.boolean(), findings: z.array(Check) });
export const PlatformRescan = z.object({ vmCount: z.int() });
export const Target = named(
  'Target',
  z.object({ id: z.string(), name: z.string(), dataCenterId: z.string(), freeBytes: bytes, detail: z.string() }),
);
export const Targets = z.object({
  clusters: z.array(Target),
  storageDomains: z.array(Target),
  vnicProfiles: z.array(Target),
  hosts: z.array(Target),
});

export const ProtectionState = z.enum(['protected', 'outdated', 'failed', 'unprotected']);
export const Vm = named(
  'Vm',
  z.object({
    platformId: z.string(),
    id: z.string(),
    name: z.string(),
    status: z.string(),
    clusterId: z.string(),
    clusterName: z.string(),
    compatibilityLevel: z.string(),
    tags: z.array(z.string()),
    description: z.string(),
    operatingSystem: z.string(),
    diskCount: z.int(),
    provisionedBytes: bytes,
    protection: z.object({
      /** protected: a point younger than a day; outdated: only older ones; failed: the last run failed; unprotected: no point. */
      state: ProtectionState,
      lastPointId: z.string().nullable(),
      lastPointAt: optionalTime,
      pointCount: z.int(),
    }),
  }),
);
export const VmDisk = z.object({
  id: z.string(),
  name: z.string(),
  provisionedBytes: bytes,
  actualBytes: bytes,
  format: z.string(),
  sparse: z.boolean(),
  status: z.string(),
  storageDomainId: z.string(),
  storageType: z.string(),
  interface: z.string(),
  bootable: z.boolean(),
  active: z.boolean(),
  shareable: z.boolean(),
});
export const VmNic = z.object({
  id: z.string(),
  name: z.string(),
  macAddress: z.string(),
  vnicProfileId: z.string(),
  vnicProfileName: z.string(),
  networkName: z.string(),
  interface: z.string(),
  plugged: z.boolean(),
  linked: z.boolean(),
});
export const VmDetail = named('VmDetail', Vm.extend({ disks: z.array(VmDisk), nics: z.array(VmNic) }));
export const VmQuery = Paging.extend({
  platform: reference.optional(),
  /** Selector expression, as in jobs. */
  select: z.string().max(500).optional(),
  protection: ProtectionState.optional(),
});
export const PreflightRequest = z.object({ vms: z.array(reference).min(1).max(500), platform: reference.optional() });
export const ReadMode = z.enum(['unknown', 'full', 'incremental', 'digest-compare']);
export const Severity = z.enum(['info', 'warning', 'blocking']);
export const PreflightVerdict = named(
  'PreflightVerdict',
  z.object({
    platformId: z.string(),
    vmId: z.string(),
    vmName: z.string(),
    canBackUp: z.boolean(),
    retryLater: z.boolean(),
    findings: z.array(z.object({ code: z.string(), severity: Severity, message: z.string(), advice: z.string(), diskId: z.string() })),
    disks: z.array(z.object({ diskId: z.string(), name: z.string(), mode: ReadMode, reason: z.string() })),
  }),
);
