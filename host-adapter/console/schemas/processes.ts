/** Plug-ins, and the enrolment of all processes. */
import { z } from 'zod';
import { named, optionalTime, time } from './common';

export const EnrolmentTokenRequest = z.object({
  lifetimeMinutes: z.int().min(1).max(1440).default(10),
  /** A plug-in or mover that is enrolled already and lost its certificate; it stays the same one. */
  again: z.uuid().optional(),
});
export const EnrolmentToken = named(
  'EnrolmentToken',
  z.object({
    role: z.enum(['plugin', 'mover', 'worker']),
    token: z.string(),
    expiresAt: time,
    /** Where the new process enrols; workers enrol at their plug-in. */
    enrolmentEndpoint: z.string(),
    caFingerprint: z.string(),
  }),
);
export const processFields = {
  id: z.string(),
  hostName: z.string(),
  version: z.string(),
  protocols: z.array(z.string()),
  capabilities: z.array(z.string()),
  /** enrolled: has a certificate, never registered; lost: its lease ran out. */
  state: z.enum(['enrolled', 'connected', 'lost']),
  enrolledAt: time,
  lastSeenAt: optionalTime,
  leaseExpiresAt: optionalTime,
};
export const Plugin = named(
  'Plugin',
  z.object({
    ...processFields,
    /** Kind of plug-in, e.g. ovirt. */
    pluginId: z.string(),
    enabled: z.boolean(),
    endpoint: z.string(),
    workerEndpoint: z.string(),
    workerEnrolmentEndpoint: z.string(),
  }),
);
