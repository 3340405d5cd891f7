import { z } from 'zod';

const endpoint = z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/, 'must be host:port, IPv6 in brackets');
const port = z.int().min(0).max(65535);

/** Configuration of a mover: a JSON file, then the environment (`TIDEMARK_DATA_FOLDER`, `TIDEMARK_HOST__ENDPOINT` …). */
export const moverConfigSchema = z.strictObject({
  /** Keeps the identity and the list of repositories; everything else in it is a cache. */
  dataFolder: z.string().min(1),
  /** The ports that the mover opens; 0 picks a free one, told in the ready line. */
  listen: z
    .strictObject({
      address: z.string().min(1).default('::'),
      /** mover.v1 for the host, mutual TLS. */
      port: port.default(8447),
      /** Data Mover protocol for workers, mutual TLS. */
      dataPort: port.default(8445),
    })
    .prefault({}),
  /** Names and addresses of this machine; go into the certificate. The first one is announced. */
  addresses: z.array(z.string().min(1)).min(1).default(['localhost', '127.0.0.1', '::1']),
  /** What host and workers dial, when that is not the addresses and the ports. */
  advertise: z.strictObject({ endpoint: endpoint.optional(), dataEndpoints: z.array(endpoint).min(1).optional() }).prefault({}),
  /** This mover carries data to buckets, shares and machines that may run no services: the server may choose it for any of them. */
  gateway: z.boolean().default(false),
  host: z
    .strictObject({
      /** host:port of the server's port for processes. */
      endpoint: endpoint.default('localhost:8444'),
      /** host:port of its enrolment port. */
      enrolmentEndpoint: endpoint.optional(),
      /** One-time token; needed until enrolled. */
      enrolmentToken: z.string().min(1).optional(),
      /** The token in a file, read only when there is no identity yet (`TIDEMARK_HOST__ENROLMENT_TOKEN_FILE`). */
      enrolmentTokenFile: z.string().min(1).optional(),
      /** How long a server that does not answer yet is waited for at enrolment. */
      enrolmentPatienceMs: z.int().min(0).default(120_000),
    })
    .prefault({}),
  limits: z
    .strictObject({
      maxConnections: z.int().min(1).default(256),
      maxConnectionsPerSession: z.int().min(1).default(32),
      /** Workers that measure the way at the same time; each takes as much of the network as it gets. */
      maxProbes: z.int().min(1).default(8),
      helloTimeoutMs: z.int().min(100).default(10_000),
      idleTimeoutMs: z.int().min(100).default(120_000),
      maxPutsInFlight: z.int().min(1).max(1024).default(16),
      /** Entries of an offer, blocks of a read; with the smallest blocks an offer still fits a frame. */
      maxBatch: z.int().min(1).max(1600).default(256),
      /** Backups are refused when a repository has less room. */
      minimumFreeBytes: z.int().min(0).default(268_435_456),
    })
    .prefault({}),
  shares: z
    .strictObject({
      /** How long calls on a share that the mover mounts wait for a server that does not answer, before they fail. */
      patienceMs: z.int().min(3_000).max(600_000).default(60_000),
    })
    .prefault({}),
  /** How long a repository stays locked after its mover vanished with its machine. */
  lockLeaseMs: z.int().min(1000).default(30_000),
  logLevel: z.enum(['error', 'warn', 'info', 'debug']).default('info'),
  logFile: z.string().min(1).optional(),
});

export type MoverConfig = Readonly<z.infer<typeof moverConfigSchema>>;
