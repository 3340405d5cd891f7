import { z } from 'zod';

const endpoint = z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/, 'must be host:port, IPv6 in brackets');

/** Configuration of a worker: a JSON file, then the environment (`TIDEMARK_…`). */
export const workerConfigSchema = z.strictObject({
  /** Keeps identity and instance id. */
  dataFolder: z.string().min(1),
  plugin: z
    .strictObject({
      /** host:port of the plug-in's worker service. */
      endpoint: endpoint.default('localhost:8446'),
      /** host:port of its enrolment port; needed until enrolled. */
      enrolmentEndpoint: endpoint.optional(),
      /** One-time token; needed until enrolled. */
      enrolmentToken: z.string().min(1).optional(),
      /** The token in a file, read only when there is no identity yet (`TIDEMARK_PLUGIN__ENROLMENT_TOKEN_FILE`). */
      enrolmentTokenFile: z.string().min(1).optional(),
      /** How long a plug-in that does not answer yet is waited for at enrolment. */
      enrolmentPatienceMs: z.int().min(0).default(120_000),
    })
    .prefault({}),
  /** Disk tasks at the same time. */
  taskSlots: z.int().min(1).max(16).default(4),
  /** Threads that read, hash and compress; 0: one per core, from 2 to 4. */
  threads: z.int().min(0).max(64).default(0),
  /** Where it runs; empty beside the server. */
  platformId: z.string().default(''),
  clusterId: z.string().default(''),
  /** Names and addresses of this machine, for the plug-in's lists. */
  addresses: z.array(z.string().min(1)).default([]),
  /** Version of the worker image that it was booted from; empty elsewhere. */
  imageVersion: z.string().default(''),
  /** Where disks that are plugged in show; other folders are for tests. */
  devices: z.strictObject({ sysFolder: z.string().min(1).default('/sys'), deviceFolder: z.string().min(1).default('/dev') }).prefault({}),
  logLevel: z.enum(['error', 'warn', 'info', 'debug']).default('info'),
  logFile: z.string().min(1).optional(),
});

export type WorkerConfig = Readonly<z.infer<typeof workerConfigSchema>>;
