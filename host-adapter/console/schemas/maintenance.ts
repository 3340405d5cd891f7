/** Maintenance of repositories, and copies of the configuration. */
import { z } from 'zod';
import { bytes, Failure, named, optionalTime, reference, time } from './common';
import { Point } from './repositories';

const rate = z.int().min(0);

export const VerifyRequest = z.object({
  /** Bytes read per second at most; 0: no limit. */
  bytesPerSecond: rate.default(0),
  /** Packs that were verified within so many days are not read again; 0: everything is read. */
  periodDays: z.number().min(0).max(3650).default(0),
});
export const CollectRequest = z.object({
  /** Finds out and tells, changes nothing. */
  dryRun: z.boolean().default(false),
  /** Bytes read and written per second at most; 0: no limit. */
  bytesPerSecond: rate.default(0),
  /** How long what this run condemns can be had back, instead of the repository's grace time. Never less than two leases of a mover are kept. */
  graceMs: z
    .int()
    .min(60_000, 'is less than a minute')
    .max(3_660 * 86_400_000)
    .optional(),
});
export const CollectUndone = z.object({ restoredPacks: z.int(), restoredBytes: bytes });
/** Points that can be used, those that are listed as damaged, and those that were removed and are not imported. */
export const Imported = z.object({ pointCount: z.int(), damagedCount: z.int(), removedCount: z.int() });

export const PointRemoved = z.object({ removedAt: time });
export const UndoRemoveRequest = z.object({ repository: reference.optional() });
export const RemovedPoint = named('RemovedPoint', z.object({ point: Point, removedAt: optionalTime, deletedAfter: optionalTime }));
export const RemovedQuery = z.object({ repository: reference.optional() });

export const CopyRequest = z.object({ repository: reference.optional() });
export const ConfigurationCopy = named(
  'ConfigurationCopy',
  z.object({ repositoryId: z.string(), repositoryName: z.string(), name: z.string().nullable(), failure: Failure.nullable() }),
);
export const ConfigurationKey = z.object({
  createdAt: time,
  fingerprint: z.string(),
  /** False: nobody has the recovery key yet, and no copy can be opened. */
  wasShown: z.boolean(),
});
/** Shown once, kept nowhere. */
export const ConfigurationRecoveryKey = z.object({ recoveryKey: z.string(), fingerprint: z.string() });
