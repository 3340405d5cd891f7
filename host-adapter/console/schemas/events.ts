/** What happened. */
import { z } from 'zod';
import { named, optionalTime, Paging, time } from './common';

export const Leftover = z.object({
  pluginId: z.string(),
  platformId: z.string(),
  kind: z.string(),
  id: z.string(),
  vmId: z.string(),
  operationId: z.string(),
  state: z.enum(['unknown', 'pending', 'removed', 'stuck']),
  message: z.string(),
  foundAt: optionalTime,
  settledAt: optionalTime,
});
export const JanitorReport = named('JanitorReport', z.object({ lastSweepAt: optionalTime, leftovers: z.array(Leftover) }));
export const Event = named(
  'Event',
  z.object({
    id: z.int(),
    at: time,
    source: z.string(),
    severity: z.enum(['info', 'warning', 'error']),
    code: z.string(),
    message: z.string(),
    references: z.record(z.string(), z.string()),
  }),
);
export const AuditEntry = named(
  'AuditEntry',
  z.object({
    id: z.int(),
    at: time,
    user: z.string(),
    action: z.string(),
    target: z.string(),
    /** HTTP status of the answer. */
    status: z.int(),
    remoteAddress: z.string(),
    correlationId: z.string(),
  }),
);
export const EventQuery = Paging.extend({ severity: z.enum(['info', 'warning', 'error']).optional() });
