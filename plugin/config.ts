import { z } from 'zod';
import { defaultWorkerVmLimits } from './worker-vms/timing';

const endpoint = z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/, 'must be host:port, IPv6 in brackets');
const port = z.int().min(0).max(65535);

/** Configuration of the plug-in: a JSON file, then the environment (`TIDEMARK_DATA_FOLDER`, `TIDEMARK_HOST__ENDPOINT` …). */
export const pluginConfigSchema = z.strictObject({
  /** Keeps identity, connected engines (passwords encrypted) and the journal. */
  dataFolder: z.string().min(1),
  displayName: z.string().min(1).max(100).default('oVirt'),
  /** The ports that the plug-in opens; 0 picks a free one, told in the ready line. */
  listen: z
    .strictObject({
      address: z.string().min(1).default('::'),
      /** plugin.v1 for the host and worker.v1 for workers, mutual TLS. */
      port: port.default(8446),
      /** Enrolment of workers. */
      enrolmentPort: port.default(8448),
    })
    .prefault({}),
  /** Names and addresses of this machine; go into the certificate. The first one is announced. */
  addresses: z.array(z.string().min(1)).min(1).default(['localhost', '127.0.0.1', '::1']),
  /** What host and workers dial, when that is not the first address and the port. */
  advertise: z
    .strictObject({ endpoint: endpoint.optional(), workerEndpoint: endpoint.optional(), enrolmentEndpoint: endpoint.optional() })
    .prefault({}),
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
  inventory: z
    .strictObject({
      /** The engine's events are looked at for changed VMs. */
      pollMs: z.int().min(100).default(10_000),
      /** Everything is read again. */
      refreshMs: z.int().min(1000).default(900_000),
    })
    .prefault({}),
  workerImage: z
    .strictObject({
      /** Where the worker image lies; default: `.cache/worker-image` of the installation, else /usr/share/tidemark/worker-image. */
      folder: z.string().min(1).optional(),
    })
    .prefault({}),
  workerVms: z
    .strictObject({
      /** A storage domain with less than this free takes no worker. */
      minFreeBytes: z.int().min(0).default(defaultWorkerVmLimits.minFreeBytes),
      minFreePercent: z.number().min(0).max(100).default(defaultWorkerVmLimits.minFreePercent),
      /** From the start of a worker VM to its first word. */
      enrolmentMs: z.int().min(1000).default(defaultWorkerVmLimits.enrolmentMs),
      /** A worker VM that does not shut down within this time is powered off. */
      shutdownMs: z.int().min(0).default(defaultWorkerVmLimits.shutdownMs),
      /** Life of a worker's one-time token. */
      tokenMs: z.int().min(5_000).max(3_600_000).default(defaultWorkerVmLimits.tokenMs),
      /** A worker VM that has not reported for this long is lost. */
      lostMs: z.int().min(5_000).default(defaultWorkerVmLimits.lostMs),
      /** Ports of the image daemon on the hosts and of the engine's proxy, for self-tests. */
      imageioPort: z.int().min(1).max(65535).default(defaultWorkerVmLimits.imageioPort),
      imageioProxyPort: z.int().min(1).max(65535).default(defaultWorkerVmLimits.imageioProxyPort),
    })
    .prefault({}),
  logLevel: z.enum(['error', 'warn', 'info', 'debug']).default('info'),
  logFile: z.string().min(1).optional(),
});

export type PluginConfig = Readonly<z.infer<typeof pluginConfigSchema>>;
