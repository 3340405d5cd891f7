import { z } from 'zod';

const port = z.int().min(0).max(65535);

/** Configuration of the server: a JSON file, then the environment (`TIDEMARK_DATA_FOLDER`, `TIDEMARK_LISTEN__PORT` …), then arguments. */
export const serverConfigSchema = z.strictObject({
  /** CA, catalogue, logs; with all-in-one also the folders of the children. */
  dataFolder: z.string().min(1),
  listen: z
    .strictObject({
      address: z.string().min(1).default('::'),
      /** REST API (HTTPS); 0 picks a free one, told in the ready line and in `endpoints.json`. */
      port: port.default(8443),
      /** host.v1 for plug-ins and movers, mutual TLS. */
      controlPort: port.default(8444),
      /** Enrolment, server-authenticated TLS. */
      enrolmentPort: port.default(8449),
    })
    .prefault({}),
  /** Names and addresses of this machine; go into the certificate. The first one is announced. */
  addresses: z.array(z.string().min(1)).min(1).default(['localhost', '127.0.0.1', '::1']),
  /** Plug-in, mover and worker as children on this machine. */
  allInOne: z.boolean().default(false),
  /** Ports of the children; 0 picks free ones at the first start. */
  children: z
    .strictObject({
      pluginPort: port.default(8446),
      pluginEnrolmentPort: port.default(8448),
      moverPort: port.default(8447),
      moverDataPort: port.default(8445),
      /** Where plug-in and mover listen; as the server itself when absent. */
      listenAddress: z.string().min(1).optional(),
      /**
       * Names and addresses by which worker VMs reach this machine, beside `addresses`: go into the certificates of plug-in and mover. The first
       * one is announced for the plug-in, all of them for the mover's data port.
       */
      addresses: z.array(z.string().min(1)).default([]),
      /** Folder of the worker image on this machine; where the package puts it when absent. */
      workerImageFolder: z.string().min(1).optional(),
    })
    .prefault({}),
  /** A certificate of your own for the console (PEM, leaf first) instead of one of our CA; read at the start. */
  console: z.strictObject({ certificateFile: z.string().min(1), privateKeyFile: z.string().min(1) }).optional(),
  /** A plug-in or mover that gave no sign of life for so long counts as gone. They give one at a third of it. */
  leaseMs: z.int().min(1000).max(300_000).default(15_000),
  logLevel: z.enum(['error', 'warn', 'info', 'debug']).default('info'),
  logFile: z.string().min(1).optional(),
});

export type ServerConfig = Readonly<z.infer<typeof serverConfigSchema>>;
