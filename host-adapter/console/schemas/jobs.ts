/** Jobs. */
import { z } from 'zod';
import { itemName, named, optionalTime, reference, time, Transport } from './common';

/**
 * VMs by expression: `name:web*`, `id:…`, `tag:prod`, `cluster:east`, `platform:…`, `status:up`, joined by ` and `, negated by `not `; a bare
 * word means name or id; `*` means all. A VM is selected when one include matches and no exclude does.
 */
export const Selector = named(
  'Selector',
  z.object({
    include: z.array(z.string().min(1).max(500)).min(1).max(1000),
    exclude: z.array(z.string().min(1).max(500)).max(1000).default([]),
  }),
);
export const Schedule = z.object({
  /** Five or six fields, as cron. */
  cron: z.string().min(1).max(100),
  /** IANA name; the server's own when absent. */
  timeZone: z.string().max(64).optional(),
});
const jobFields = {
  name: itemName,
  description: z.string().max(1024),
  enabled: z.boolean(),
  selector: Selector,
  /** Disk ids that are left out. */
  excludedDiskIds: z.array(z.string().max(64)).max(1000),
  schedule: Schedule.nullable(),
  /** Kept with the job; points expire by it once retention runs. */
  retention: z.object({ days: z.int().min(1).max(36_500), minimumPoints: z.int().min(1).max(10_000) }),
  limits: z.object({ concurrentVms: z.int().min(1).max(64), disksPerVm: z.int().min(1).max(16) }),
  requireConsistency: z.boolean(),
  transport: Transport,
};
export const JobCreateRequest = z.object({
  ...jobFields,
  repository: reference,
  description: jobFields.description.default(''),
  enabled: jobFields.enabled.default(true),
  excludedDiskIds: jobFields.excludedDiskIds.default([]),
  schedule: jobFields.schedule.default(null),
  retention: jobFields.retention.default({ days: 14, minimumPoints: 3 }),
  limits: jobFields.limits.default({ concurrentVms: 4, disksPerVm: 2 }),
  requireConsistency: jobFields.requireConsistency.default(false),
  transport: jobFields.transport.default('auto'),
});
export const JobChange = z.object({ ...jobFields, repository: reference }).partial();
export const Job = named(
  'Job',
  z.object({
    id: z.string(),
    ...jobFields,
    repositoryId: z.string(),
    repositoryName: z.string(),
    createdAt: time,
    nextRunAt: optionalTime,
    lastSessionId: z.string().nullable(),
    lastSessionState: z.string().nullable(),
    lastSessionAt: optionalTime,
  }),
);
export const JobRunRequest = z.object({
  /** Read everything, even when changes are known. */
  full: z.boolean().default(false),
  /** Only these of the job's VMs (ids or names). */
  vms: z.array(reference).max(1000).default([]),
});
export const JobPreviewRequest = z.object({ selector: Selector });
