/** Restores. */
import { z } from 'zod';
import { reference, Transport } from './common';

export const MacPolicy = z.enum(['keep', 'keep-if-free', 'new']);
export const RestoreVmRequest = z.object({
  point: reference,
  platform: reference.optional(),
  /** Default: <name>-restored-<YYYYMMDD-HHMM>. */
  name: z.string().max(255).optional(),
  /** Ids or names. */
  cluster: reference.optional(),
  storageDomain: reference.optional(),
  /** From the stored storage domain (id) to one of the target. */
  storageDomains: z.record(z.string(), reference).default({}),
  /** From the stored vNIC profile (id) to one of the target; null for none. */
  vnicProfiles: z.record(z.string(), reference.nullable()).default({}),
  macPolicy: MacPolicy.default('keep-if-free'),
  powerOn: z.boolean().default(false),
  transport: Transport.default('auto'),
  /** Disk ids or names; all when empty. */
  disks: z.array(reference).max(500).default([]),
});
export const RestoreDiskRequest = z.object({
  point: reference,
  disk: reference,
  platform: reference.optional(),
  storageDomain: reference,
  name: z.string().max(255).optional(),
  transport: Transport.default('auto'),
});
export const RestoreFileRequest = z.object({
  point: reference,
  disk: reference,
  /** Absolute, on the machine of a worker beside the server. */
  path: z.string().min(1).max(4096),
  format: z.enum(['raw', 'qcow2']).default('raw'),
});
