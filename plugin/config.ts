import { z } from 'zod';

const endpoint = z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/, 'must be host:port, IPv6 in brackets');
const port = z.int().min(0).max(65535);

/**
 * Configuration of the plug-in. File and environment (`TIDEMARK_DATA_DIRECTORY`, `TIDEMARK_HOST__ENDPOINT`, `TIDEMARK_HOST__TOKEN_FILE` …);
 * port 0 picks a free one, told in the ready line.
 */
export const pluginConfig = z.strictObject({
  /** Identity, connected engines (passwords encrypted), journal. */
  dataDirectory: z.string().min(1).default('/var/lib/tidemark/plugin'),
  displayName: z.string().min(1).max(100).default('oVirt'),
  listen: z
    .strictObject({
      /** Address of both ports. */
      address: z.string().min(1).default('::'),
      /** plugin.v1 and worker.v1, mutual TLS. */
      port: port.default(8445),
      /** Enrolment of workers. */
      enrolmentPort: port.default(8446),
    })
    .prefault({}),
  /** Names under which others reach this machine; go into the certificate. The first is announced. */
  addresses: z.array(z.string().min(1)).min(1).default(['localhost', '127.0.0.1', '::1']),
  /** Where the host and the workers dial, when it is not the first address and the port (forwarded ports). */
  advertise: z
    .strictObject({ endpoint: endpoint.optional(), workerEndpoint: endpoint.optional(), enrolmentEndpoint: endpoint.optional() })
    .prefault({}),
  host: z
    .strictObject({
      endpoint: endpoint.default('localhost:8444'),
      enrolmentEndpoint: endpoint.default('localhost:8443'),
      /** One-time token; only looked at while there is no certificate. Give it by `TIDEMARK_HOST__TOKEN_FILE`. */
      token: z.string().min(1).optional(),
    })
    .prefault({}),
  inventory: z
    .strictObject({
      /** Changed VMs are looked for by the engine's events. */
      pollMs: z.int().min(200).default(10_000),
      /** Everything is read again. */
      refreshMs: z.int().min(1000).default(900_000),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(['error', 'warn', 'info', 'debug']).default('info'),
      file: z.string().min(1).optional(),
    })
    .prefault({}),
  /** End when standard input closes: set by a supervising server. */
  endWithParent: z.boolean().default(false),
});

export type PluginConfig = Readonly<z.infer<typeof pluginConfig>>;
