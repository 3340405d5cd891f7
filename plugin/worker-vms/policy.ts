/** Rules of a platform's fleet. Words of tidemark.plugin.v1.FleetPolicy. */
import { z } from 'zod';
import { defaultSettings, workerSettingsSchema } from './settings';
import { WorkerVmErrors } from './worker-vm-errors';

const endpoint = z.string().regex(/^$|^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/, 'must be host:port, IPv6 in brackets');
const atLeastOne = z.int().min(1, 'must be at least 1').max(100_000, 'is too large');

export const fleetPolicySchema = z.strictObject({
  platformId: z.string().min(1),
  deployAutomatically: z.boolean(),
  allowOtherClusters: z.boolean(),
  allowBesideServer: z.boolean(),
  stopIdleAfterMs: z
    .int()
    .min(60_000, 'must be at least a minute')
    .max(7 * 24 * 3_600_000, 'must be at most a week'),
  warmWorkers: z.int().min(0, 'must not be negative').max(100, 'is too large'),
  maxWorkers: z.int().min(1, 'must be at least 1').max(100, 'is too large'),
  tasksPerHost: atLeastOne,
  tasksPerStorageDomain: atLeastOne,
  tasksPerPlatform: atLeastOne,
  automaticSettings: workerSettingsSchema,
  workerEndpoint: endpoint,
  workerEnrolmentEndpoint: endpoint,
  namePrefix: z.string().regex(/^[0-9A-Za-z][0-9A-Za-z-]{0,19}$/, 'must be 1 to 20 of a-z A-Z 0-9 -'),
});

export type FleetPolicy = Readonly<z.infer<typeof fleetPolicySchema>>;

export function defaultPolicy(platformId: string): FleetPolicy {
  return {
    platformId,
    deployAutomatically: true,
    allowOtherClusters: true,
    allowBesideServer: true,
    stopIdleAfterMs: 10 * 60_000,
    warmWorkers: 0,
    maxWorkers: 4,
    tasksPerHost: 2,
    tasksPerStorageDomain: 4,
    tasksPerPlatform: 16,
    automaticSettings: defaultSettings,
    workerEndpoint: '',
    workerEnrolmentEndpoint: '',
    namePrefix: 'tidemark',
  };
}

/** Throws WORKER_SETTINGS_INVALID. */
export function checkPolicy(policy: unknown): FleetPolicy {
  const checked = fleetPolicySchema.safeParse(policy);
  if (checked.success) {
    if ((checked.data.workerEndpoint === '') !== (checked.data.workerEnrolmentEndpoint === '')) {
      throw WorkerVmErrors.WORKER_SETTINGS_INVALID({
        field: 'policy.worker_endpoint',
        problem: 'and worker_enrolment_endpoint go together',
      });
    }
    return checked.data;
  }
  const issue = checked.error.issues[0];
  const field = (issue?.path ?? []).map((part) => (part === 'stopIdleAfterMs' ? 'stopIdleAfter' : String(part)));
  throw WorkerVmErrors.WORKER_SETTINGS_INVALID({
    field: ['policy', ...field.map((part) => part.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`))].join('.'),
    problem: issue?.message ?? 'is malformed',
  });
}
