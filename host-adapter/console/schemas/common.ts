/** What the shapes of every noun are built from. */
import { z } from 'zod';

export const named = <T extends z.ZodType>(id: string, schema: T): T => schema.meta({ id });
export const time = z.iso.datetime();
export const optionalTime = time.nullable();
export const bytes = z.int().nonnegative();
export const itemName = z
  .string()
  .trim()
  .min(1)
  .max(64)
  .regex(/^[^/\p{C}]+$/u, 'may not contain "/" or control characters');
/** An id or a name in a request: whatever the administrator typed. */
export const reference = z.string().trim().min(1).max(255);

/**
 * How workers get at disks: `image-transfer` through imageio, `attachment` by attaching them to a worker VM, `auto` as the plug-in finds best.
 */
export const Transport = z.enum(['auto', 'image-transfer', 'attachment']);

export const Problem = named(
  'Problem',
  z.object({
    code: z.string(),
    message: z.string(),
    retry: z.enum(['never', 'same-request', 'after-delay', 'after-operator', 'full-backup', 'fresh-ticket']),
    /** The request field that is wrong. */
    field: z.string().optional(),
    correlationId: z.string(),
    meta: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
  }),
);

/** What became of something, without an HTTP request around it. */
export const Failure = named(
  'Failure',
  z.object({ code: z.string(), message: z.string(), retry: Problem.shape.retry, correlationId: z.string().optional() }),
);

export const Paging = z.object({ limit: z.coerce.number().int().min(1).max(1000).default(200), pageToken: z.string().max(500).optional() });
export const page = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item), nextPageToken: z.string().nullable() });
export const list = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item) });
