/** Certificates that matter, and their rotation. */
import { z } from 'zod';
import { Failure, named, optionalTime, time } from './common';

export const Certificate = named(
  'Certificate',
  z.object({
    /** `ca`: our own, the issuing one first; `host` is shown by server and console; `console`: brought by the administrator for the console; `engine-…` are only watched. */
    kind: z.enum(['ca', 'host', 'console', 'plugin', 'mover', 'worker', 'engine-ca', 'engine-web', 'engine-proxy', 'engine-host']),
    /** Host name of a process, name of an engine or one of its hosts. */
    name: z.string(),
    /** Id of the process that has it; null for all others. */
    id: z.string().nullable(),
    platform: z.string().nullable(),
    /** host:port where it was seen. */
    endpoint: z.string().nullable(),
    issuer: z.string().nullable(),
    /** SHA-256, lower-case hex; null for issued ones, which are known by their serial number. */
    fingerprint: z.string().nullable(),
    serialNumber: z.string().nullable(),
    expiresAt: optionalTime,
    /** Whole days that are left; negative when it is over. */
    daysLeft: z.int().nullable(),
    /**
     * `expiring`: 60 days or less, or, where it renews itself, overdue. `replacing`: to be taken over in a rotation. `unreachable`: could not be
     * looked at now.
     */
    state: z.enum(['valid', 'expiring', 'expired', 'replacing', 'unreachable']),
    /** For people: what will happen, or what to do. */
    note: z.string(),
    observedAt: optionalTime,
    failure: Failure.nullable(),
  }),
);
export const CertificateQuery = z.object({
  /** Look at engines and hosts now, instead of showing the daily look. */
  refresh: z
    .enum(['true', 'false'])
    .default('false')
    .transform((text) => text === 'true'),
});
export const RotationPeer = named(
  'RotationPeer',
  z.object({
    id: z.string(),
    role: z.enum(['plugin', 'mover', 'worker']),
    name: z.string(),
    connected: z.boolean(),
    lastHeardAt: optionalTime,
  }),
);
export const RotationState = named(
  'RotationState',
  z.object({
    /** While two CAs are trusted. */
    overlap: z.object({ startedAt: time, endsAt: time }).nullable(),
    /** SHA-256 of each CA that is trusted, the issuing one first. */
    authorities: z.array(z.string()),
    /** Certificates issued before are being replaced. */
    leavesSince: optionalTime,
    /** Who has not taken over what is wanted. */
    missing: z.array(RotationPeer),
    /** The last rotation of the CA that ended; `missing` have to enrol again. */
    finished: z.object({ startedAt: time, finishedAt: time, missing: z.array(z.object({ id: z.string(), name: z.string() })) }).nullable(),
  }),
);
export const RotateRequest = z.object({ dryRun: z.boolean().default(false) });
export const RotateAuthorityRequest = RotateRequest.extend({
  /** Longest time for which the old CA is trusted beside the new one. */
  overlapDays: z.int().min(1).max(365).default(30),
});
export const RotationReply = named(
  'RotationReply',
  z.object({
    dryRun: z.boolean(),
    /** Everybody who is to get a new certificate: at once when connected, else when they are back. */
    peers: z.array(RotationPeer),
    overlapEndsAt: optionalTime,
  }),
);
export const RevokeRequest = z.object({ id: z.uuid() });
export const TrustBundle = z.object({ caPem: z.string() });
