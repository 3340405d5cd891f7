/** Workers, their VMs, the rules of a platform's fleet. */
import net from 'node:net';
import { z } from 'zod';
import { checks, verdicts } from '../../workers/self-test';
import { bytes, Failure, named, optionalTime, reference } from './common';

const address = z.string().refine((text) => net.isIP(text) !== 0, 'must be an IP address');
const prefixed = z.string().refine((text) => {
  const [host = '', length = '', ...rest] = text.split('/');
  const family = net.isIP(host);
  return rest.length === 0 && family !== 0 && /^\d{1,3}$/.test(length) && Number(length) <= (family === 4 ? 32 : 128);
}, 'must be an IP address with a prefix length, e.g. 10.0.0.9/24');
const endpoint = z
  .string()
  .max(255)
  .regex(/^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$/, 'must be host:port, IPv6 in brackets');
const hostName = z
  .string()
  .max(255)
  .regex(/^[\w.:-]+$/, 'must be a name or an address');
const tasks = z.int().min(1).max(16);
const cpus = z.int().min(1).max(64);
const memoryBytes = z
  .int()
  .min(1024 ** 3)
  .max(256 * 1024 ** 3);
const mtu = z.int().min(576).max(9216);
const addressMethod = z.enum(['automatic', 'static', 'none']);

export const SelfTestCell = z.object({
  check: z.enum(checks),
  /** host:port or a name; empty where there is only one. */
  target: z.string(),
  targetName: z.string(),
  /** info does not matter for backups, but may explain something. */
  verdict: z.enum(verdicts),
  detail: z.string(),
  /** What to open or fix; empty when nothing is wrong. */
  advice: z.string(),
  code: z.string(),
  latencyMs: z.number().nonnegative().nullable(),
  /** Throughput only. */
  bytesPerSecond: bytes.nullable(),
  /** Own address that the system chose for this target. */
  localAddress: z.string(),
});
export const SelfTest = named('SelfTest', z.object({ testedAt: optionalTime, verdict: z.enum(verdicts), cells: z.array(SelfTestCell) }));

const WorkerAddress = z.object({ method: addressMethod, address: z.string().nullable(), gateway: z.string().nullable() });
/** Of a worker VM; null and empty lists are the plug-in's choice. */
export const WorkerSettings = named(
  'WorkerSettings',
  z.object({
    name: z.string().nullable(),
    description: z.string().nullable(),
    storageDomainId: z.string().nullable(),
    taskSlots: z.int().nullable(),
    cpuCount: z.int().nullable(),
    memoryBytes: bytes.nullable(),
    nics: z.array(
      z.object({
        vnicProfileId: z.string(),
        ipv4: WorkerAddress,
        ipv6: WorkerAddress,
        routes: z.array(z.object({ destination: z.string(), via: z.string().nullable() })),
        mtu: z.int().nullable(),
      }),
    ),
    dnsServers: z.array(z.string()),
    dnsSearch: z.array(z.string()),
    ntpServers: z.array(z.string()),
    hostIds: z.array(z.string()),
    avoidedHostTags: z.array(z.string()),
  }),
);
export const WorkerState = z.enum([
  'connected',
  'draining',
  'drained',
  'lost',
  'deploying',
  'stopped',
  'starting',
  'stopping',
  'failed',
  'unknown',
]);
export const Worker = named(
  'Worker',
  z.object({
    id: z.string(),
    pluginId: z.string(),
    /** The VM's name; the machine's for a worker beside the server. */
    name: z.string(),
    hostName: z.string(),
    version: z.string(),
    /** null: beside the server, as are cluster, VM and settings. */
    platformId: z.string().nullable(),
    clusterId: z.string().nullable(),
    clusterName: z.string().nullable(),
    vmId: z.string().nullable(),
    /** Where the VM runs. */
    hostId: z.string().nullable(),
    /**
     * connected: ready for tasks; draining, drained: takes no new ones; lost: should be there and is not. VMs also: deploying, stopped (started
     * when work comes), starting, stopping, failed (`problem` says why).
     */
    state: WorkerState,
    taskSlots: z.int(),
    runningTasks: z.int(),
    residentMemoryBytes: bytes,
    lastSeenAt: optionalTime,
    imageVersion: z.string().nullable(),
    /** Another image version is installed: it is replaced when idle. */
    outdated: z.boolean(),
    addresses: z.array(z.string()),
    selfTest: SelfTest.nullable(),
    problem: Failure.nullable(),
    settings: WorkerSettings.nullable(),
    operationId: z.string().nullable(),
    createdAt: optionalTime,
    certificateExpiresAt: optionalTime,
    certificateDaysLeft: z.int().nullable(),
  }),
);

const addressRequest = z
  .object({ method: addressMethod, address: prefixed.optional(), gateway: address.optional() })
  .refine((one) => (one.method === 'static') === (one.address !== undefined), {
    path: ['address'],
    message: 'is needed for method static, and only there',
  });
/** Names or ids. What is absent stays as it is (or the plug-in's choice); null and empty lists give a choice back. */
const settingsFields = {
  name: z
    .string()
    .regex(/^[A-Za-z0-9-]{1,40}$/, 'may have up to 40 of a-z A-Z 0-9 -')
    .nullable()
    .optional(),
  description: z.string().max(1024).nullable().optional(),
  storageDomain: reference.nullable().optional(),
  taskSlots: tasks.nullable().optional(),
  cpuCount: cpus.nullable().optional(),
  memoryBytes: memoryBytes.nullable().optional(),
  nics: z
    .array(
      z.object({
        /** Id, name, or network/name. */
        vnicProfile: reference,
        ipv4: addressRequest.optional(),
        ipv6: addressRequest.optional(),
        routes: z
          .array(z.object({ destination: prefixed, via: address.optional() }))
          .max(64)
          .default([]),
        mtu: mtu.optional(),
      }),
    )
    .max(8)
    .optional(),
  dnsServers: z.array(address).max(8).optional(),
  dnsSearch: z.array(hostName).max(16).optional(),
  ntpServers: z.array(hostName).max(8).optional(),
  hosts: z.array(reference).max(256).optional(),
  avoidedHostTags: z.array(z.string().min(1).max(255)).max(64).optional(),
};
export const WorkerDeployRequest = z.object({ platform: reference.optional(), cluster: reference, ...settingsFields });
export const WorkerChange = z.object({
  ...settingsFields,
  /** Do not wait for running tasks: they are retried elsewhere. */
  force: z.boolean().default(false),
});
export const WorkerForceRequest = z.object({ force: WorkerChange.shape.force });
export const WorkerRemoveQuery = z.object({ force: z.stringbool().default(false) });
export const WorkerPreview = named(
  'WorkerPreview',
  z.object({
    platformId: z.string(),
    clusterId: z.string(),
    clusterName: z.string(),
    imageVersion: z.string(),
    taskSlots: z.int(),
    cpuCount: z.int(),
    memoryBytes: bytes,
    settings: WorkerSettings,
  }),
);

export const OrphanWorker = named(
  'OrphanWorker',
  z.object({
    pluginId: z.string(),
    platformId: z.string(),
    vmId: z.string(),
    name: z.string(),
    description: z.string(),
    status: z.string(),
    clusterId: z.string(),
    /** Instance id of the plug-in that made it; null when unreadable. */
    madeBy: z.string().nullable(),
    createdAt: optionalTime,
  }),
);
export const WorkerImage = named(
  'WorkerImage',
  z.object({
    pluginId: z.string(),
    version: z.string(),
    /** SHA-256 of the file, lower-case hex. */
    sha256: z.string(),
    fileBytes: bytes,
    diskBytes: bytes,
    /** On the plug-in's machine. */
    path: z.string(),
  }),
);

const policyFields = {
  /** Deploy a worker into a cluster that has none when a task needs it. */
  deployAutomatically: z.boolean(),
  /** Let a task go to a worker of another cluster. */
  allowOtherClusters: z.boolean(),
  /** Let a task go to a worker beside the server. */
  allowBesideServer: z.boolean(),
  stopIdleAfterMs: z
    .int()
    .min(1000)
    .max(30 * 86_400_000),
  /** Kept running per cluster that has workers. */
  warmWorkers: z.int().min(0).max(64),
  /** Per cluster. */
  maxWorkers: z.int().min(0).max(64),
  tasksPerHost: z.int().min(1).max(256),
  tasksPerStorageDomain: z.int().min(1).max(256),
  tasksPerPlatform: z.int().min(1).max(1024),
  /** What workers dial instead of what the plug-in announces, when there is NAT between. */
  workerEndpoint: endpoint.nullable(),
  workerEnrolmentEndpoint: endpoint.nullable(),
  namePrefix: z.string().regex(/^[a-z0-9-]{1,20}$/, 'may have up to 20 of a-z 0-9 -'),
};
export const FleetPolicy = named('FleetPolicy', z.object({ platformId: z.string(), ...policyFields, automaticSettings: WorkerSettings }));
export const FleetPolicyChange = z.object({ ...policyFields, automaticSettings: z.object(settingsFields) }).partial();
