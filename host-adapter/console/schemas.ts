/**
 * The shapes of the public REST API, one source for validation, for OpenAPI and for the command line's types. Bytes and milliseconds are
 * numbers, times ISO 8601 in UTC, what is absent is null. Owns no behaviour; the routes that use the shapes are in routes.ts.
 */
import { z } from 'zod';

const named = <T extends z.ZodType>(id: string, schema: T): T => schema.meta({ id });
const time = z.iso.datetime();
const optionalTime = time.nullable();
const bytes = z.int().nonnegative();
const itemName = z
  .string()
  .trim()
  .min(1)
  .max(64)
  .regex(/^[^/\p{C}]+$/u, 'may not contain "/" or control characters');
/** An id or a name in a request: whatever the administrator typed. */
const reference = z.string().trim().min(1).max(255);

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
const page = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item), nextPageToken: z.string().nullable() });
const list = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item) });

// --- login and the server itself ---------------------------------------------------------------------------------------------------
export const LoginRequest = z.object({ user: z.string().min(1).max(64), password: z.string().min(1).max(1024) });
export const LoginReply = z.object({ token: z.string(), user: z.string(), expiresAt: time });
export const PasswordRequest = z.object({ currentPassword: z.string().max(1024), newPassword: z.string().min(12).max(1024) });
export const Health = z.object({ status: z.enum(['ok', 'starting', 'degraded']), version: z.string() });
export const Check = named('Check', z.object({ check: z.string(), passed: z.boolean(), message: z.string(), advice: z.string() }));
export const Doctor = z.object({ passed: z.boolean(), checks: z.array(Check) });
export const Settings = named(
  'Settings',
  z.object({
    /** VMs that one repository takes at a time, over all jobs. */
    repositoryTasks: z.int().min(1).max(256),
    /** Tries of one VM in one session. */
    retryAttempts: z.int().min(1).max(10),
    /** Pause before the second, third … try. */
    retryDelaysMs: z.array(z.int().min(0).max(86_400_000)).min(1).max(10),
    /** How long a task waits for something outside (mover, plug-in, a locked disk) before the try counts as failed. */
    waitLimitMs: z.int().min(1000).max(86_400_000),
    /** Life of a login. */
    loginLifetimeMs: z.int().min(60_000),
  }),
);
export const Config = named(
  'Config',
  z.object({
    version: z.string(),
    settings: Settings,
    caFingerprint: z.string(),
    endpoints: z.object({ console: z.string(), control: z.string(), enrolment: z.string() }),
  }),
);
export const SettingsChange = Settings.partial();

// --- processes ----------------------------------------------------------------------------------------------------------------------
export const EnrolmentTokenRequest = z.object({ lifetimeMinutes: z.int().min(1).max(1440).default(10) });
export const EnrolmentToken = named(
  'EnrolmentToken',
  z.object({
    role: z.enum(['plugin', 'mover', 'worker']),
    token: z.string(),
    expiresAt: time,
    /** Where the new process enrols; workers enrol at their plug-in. */
    enrolmentEndpoint: z.string(),
    caFingerprint: z.string(),
  }),
);
const processFields = {
  id: z.string(),
  hostName: z.string(),
  version: z.string(),
  protocols: z.array(z.string()),
  capabilities: z.array(z.string()),
  /** enrolled: has a certificate, never registered; lost: its lease ran out. */
  state: z.enum(['enrolled', 'connected', 'lost']),
  enrolledAt: time,
  lastSeenAt: optionalTime,
  leaseExpiresAt: optionalTime,
};
export const Plugin = named(
  'Plugin',
  z.object({
    ...processFields,
    /** Kind of plug-in, e.g. ovirt. */
    pluginId: z.string(),
    enabled: z.boolean(),
    endpoint: z.string(),
    workerEndpoint: z.string(),
    workerEnrolmentEndpoint: z.string(),
  }),
);
export const Mover = named('Mover', z.object({ ...processFields, controlEndpoint: z.string(), dataEndpoints: z.array(z.string()) }));
export const Worker = named(
  'Worker',
  z.object({
    id: z.string(),
    pluginId: z.string(),
    hostName: z.string(),
    version: z.string(),
    /** Empty: beside the server. */
    clusterId: z.string(),
    state: z.string(),
    taskSlots: z.int(),
    runningTasks: z.int(),
    residentMemoryBytes: bytes,
    lastSeenAt: optionalTime,
  }),
);

// --- platforms and VMs --------------------------------------------------------------------------------------------------------------
export const PlatformInspectRequest = z.object({ url: z.string().max(500), plugin: reference.optional() });
export const PlatformInspection = z.object({
  url: z.string(),
  caFingerprint: z.string(),
  caSubject: z.string(),
  caExpiresAt: optionalTime,
});
export const PlatformAddRequest = z.object({
  name: itemName,
  url: z.string().max(500),
  username: z.string().min(1).max(255),
  password: z.string().min(1).max(1024),
  /** As confirmed by the administrator; from inspect. */
  caFingerprint: z.string().max(200),
  plugin: reference.optional(),
});
export const PlatformChange = z.object({
  username: z.string().min(1).max(255).optional(),
  password: z.string().min(1).max(1024).optional(),
  caFingerprint: z.string().max(200).optional(),
});
export const Platform = named(
  'Platform',
  z.object({
    id: z.string(),
    name: z.string(),
    pluginId: z.string(),
    url: z.string(),
    username: z.string(),
    caFingerprint: z.string(),
    engineVersion: z.string(),
    /** null while the engine answers. */
    unavailable: Failure.nullable(),
    lastContactAt: optionalTime,
  }),
);
export const PlatformTest = z.object({ passed: z.boolean(), findings: z.array(Check) });
export const PlatformRescan = z.object({ vmCount: z.int() });
export const Target = named(
  'Target',
  z.object({ id: z.string(), name: z.string(), dataCenterId: z.string(), freeBytes: bytes, detail: z.string() }),
);
export const Targets = z.object({ clusters: z.array(Target), storageDomains: z.array(Target), vnicProfiles: z.array(Target) });

export const ProtectionState = z.enum(['protected', 'outdated', 'failed', 'unprotected']);
export const Vm = named(
  'Vm',
  z.object({
    platformId: z.string(),
    id: z.string(),
    name: z.string(),
    status: z.string(),
    clusterId: z.string(),
    clusterName: z.string(),
    compatibilityLevel: z.string(),
    tags: z.array(z.string()),
    description: z.string(),
    operatingSystem: z.string(),
    diskCount: z.int(),
    provisionedBytes: bytes,
    protection: z.object({
      /** protected: a point younger than a day; outdated: only older ones; failed: the last run failed; unprotected: no point. */
      state: ProtectionState,
      lastPointId: z.string().nullable(),
      lastPointAt: optionalTime,
      pointCount: z.int(),
    }),
  }),
);
export const VmDisk = z.object({
  id: z.string(),
  name: z.string(),
  provisionedBytes: bytes,
  actualBytes: bytes,
  format: z.string(),
  sparse: z.boolean(),
  status: z.string(),
  storageDomainId: z.string(),
  storageType: z.string(),
  interface: z.string(),
  bootable: z.boolean(),
  active: z.boolean(),
  shareable: z.boolean(),
});
export const VmNic = z.object({
  id: z.string(),
  name: z.string(),
  macAddress: z.string(),
  vnicProfileId: z.string(),
  vnicProfileName: z.string(),
  networkName: z.string(),
  interface: z.string(),
  plugged: z.boolean(),
  linked: z.boolean(),
});
export const VmDetail = named('VmDetail', Vm.extend({ disks: z.array(VmDisk), nics: z.array(VmNic) }));
export const VmQuery = Paging.extend({
  platform: reference.optional(),
  /** Selector expression, as in jobs. */
  select: z.string().max(500).optional(),
  protection: ProtectionState.optional(),
});
export const PreflightRequest = z.object({ vms: z.array(reference).min(1).max(500), platform: reference.optional() });
export const ReadMode = z.enum(['unknown', 'full', 'incremental', 'digest-compare']);
export const Severity = z.enum(['info', 'warning', 'blocking']);
export const PreflightVerdict = named(
  'PreflightVerdict',
  z.object({
    platformId: z.string(),
    vmId: z.string(),
    vmName: z.string(),
    canBackUp: z.boolean(),
    retryLater: z.boolean(),
    findings: z.array(z.object({ code: z.string(), severity: Severity, message: z.string(), advice: z.string(), diskId: z.string() })),
    disks: z.array(z.object({ diskId: z.string(), name: z.string(), mode: ReadMode, reason: z.string() })),
  }),
);

// --- repositories and points --------------------------------------------------------------------------------------------------------
export const RepositoryAddRequest = z.object({
  name: itemName,
  /** `directory:<absolute path>` on the mover's machine; a bare absolute path means that too. */
  location: z.string().min(1).max(4096),
  /** Needed when there is more than one. */
  mover: reference.optional(),
  /** True: take over an existing repository; else make a new one. */
  attach: z.boolean().default(false),
  blockSizeBytes: z.int().min(65_536).max(4_194_304).optional(),
  compression: z.enum(['none', 'zstd']).optional(),
  compressionLevel: z.int().min(-7).max(22).optional(),
});
export const Repository = named(
  'Repository',
  z.object({
    id: z.string(),
    name: z.string(),
    location: z.string(),
    moverId: z.string(),
    state: z.enum(['available', 'unavailable']),
    /** Why it is unavailable, e.g. repository-mover-lost. */
    reason: z.string().nullable(),
    message: z.string().nullable(),
    blockSizeBytes: bytes,
    compression: z.enum(['none', 'zstd']),
    formatVersion: z.int(),
    createdAt: optionalTime,
    pointCount: z.int(),
    storedBytes: bytes,
    freeBytes: bytes,
    blockCount: z.int(),
    openSessionCount: z.int(),
  }),
);
export const Counters = named(
  'Counters',
  z.object({
    plannedBytes: bytes,
    readBytes: bytes,
    transferredBytes: bytes,
    storedBytes: bytes,
    zeroBytes: bytes,
    deduplicatedBytes: bytes,
  }),
);
export const PointDisk = z.object({
  diskId: z.string(),
  name: z.string(),
  sizeBytes: bytes,
  format: z.string(),
  sparse: z.boolean(),
  storageDomainId: z.string(),
  interface: z.string(),
  bootable: z.boolean(),
  mode: ReadMode,
  reason: z.string(),
  counters: Counters,
});
export const Point = named(
  'Point',
  z.object({
    id: z.string(),
    repositoryId: z.string(),
    repositoryName: z.string(),
    platformId: z.string(),
    vmId: z.string(),
    vmName: z.string(),
    pointInTime: optionalTime,
    committedAt: optionalTime,
    jobName: z.string(),
    sessionId: z.string(),
    checkpointId: z.string(),
    consistency: z.enum(['unknown', 'crash', 'quiesced', 'offline']),
    /** The manifest cannot be trusted: the point is listed, not usable. */
    damaged: z.boolean(),
    message: z.string(),
    disks: z.array(PointDisk),
  }),
);
export const PointQuery = Paging.extend({
  repository: reference.optional(),
  platform: reference.optional(),
  /** Id or name. */
  vm: reference.optional(),
  /** Ask the movers again rather than the cache. */
  refresh: z.stringbool().default(false),
});

// --- jobs ---------------------------------------------------------------------------------------------------------------------------
/**
 * VMs by expression: `name:web*`, `id:…`, `tag:prod`, `cluster:east`, `platform:…`, `status:up`, joined by ` and `, negated by `not `; a bare
 * word means name or id; `*` means all. A VM is selected when one include matches and no exclude does.
 */
export const Selector = named(
  'Selector',
  z.object({
    include: z.array(z.string().min(1).max(500)).min(1).max(1000),
    exclude: z.array(z.string().min(1).max(500)).max(1000).default([]),
  }),
);
export const Schedule = z.object({
  /** Five or six fields, as cron. */
  cron: z.string().min(1).max(100),
  /** IANA name; the server's own when absent. */
  timeZone: z.string().max(64).optional(),
});
const jobFields = {
  name: itemName,
  description: z.string().max(1024),
  enabled: z.boolean(),
  selector: Selector,
  /** Disk ids that are left out. */
  excludedDiskIds: z.array(z.string().max(64)).max(1000),
  schedule: Schedule.nullable(),
  /** Kept with the job; points expire by it once retention runs. */
  retention: z.object({ days: z.int().min(1).max(36_500), minimumPoints: z.int().min(1).max(10_000) }),
  limits: z.object({ concurrentVms: z.int().min(1).max(64), disksPerVm: z.int().min(1).max(16) }),
  requireConsistency: z.boolean(),
};
export const JobCreateRequest = z.object({
  ...jobFields,
  repository: reference,
  description: jobFields.description.default(''),
  enabled: jobFields.enabled.default(true),
  excludedDiskIds: jobFields.excludedDiskIds.default([]),
  schedule: jobFields.schedule.default(null),
  retention: jobFields.retention.default({ days: 14, minimumPoints: 3 }),
  limits: jobFields.limits.default({ concurrentVms: 4, disksPerVm: 2 }),
  requireConsistency: jobFields.requireConsistency.default(false),
});
export const JobChange = z.object({ ...jobFields, repository: reference }).partial();
export const Job = named(
  'Job',
  z.object({
    id: z.string(),
    ...jobFields,
    repositoryId: z.string(),
    repositoryName: z.string(),
    createdAt: time,
    nextRunAt: optionalTime,
    lastSessionId: z.string().nullable(),
    lastSessionState: z.string().nullable(),
    lastSessionAt: optionalTime,
  }),
);
export const JobRunRequest = z.object({
  /** Read everything, even when changes are known. */
  full: z.boolean().default(false),
  /** Only these of the job's VMs (ids or names). */
  vms: z.array(reference).max(1000).default([]),
});
export const JobPreviewRequest = z.object({ selector: Selector });

// --- sessions -----------------------------------------------------------------------------------------------------------------------
const finalStates = ['success', 'warning', 'partial', 'skipped', 'failed', 'cancelled'] as const;
export const SessionState = z.enum(['running', 'retry-wait', ...finalStates]);
export const SessionKind = z.enum(['backup', 'restore', 'verify']);
export const TaskState = z.enum(['queued', 'preparing', 'starting', 'transferring', 'committing', 'cleaning', ...finalStates]);
export const TaskDisk = z.object({
  diskId: z.string(),
  name: z.string(),
  sizeBytes: bytes,
  mode: ReadMode,
  /** Why not incremental; empty when it is. */
  reason: z.string(),
  /** proxy when the data did not come straight from the host. */
  path: z.enum(['direct', 'proxy']),
  counters: Counters,
  startedAt: optionalTime,
  endedAt: optionalTime,
  durationMs: z.int().nullable(),
});
export const Task = named(
  'Task',
  z.object({
    id: z.string(),
    sessionId: z.string(),
    platformId: z.string(),
    vmId: z.string(),
    vmName: z.string(),
    state: TaskState,
    /** Reason code while it waits (worker-slots, vm-in-backup, repository-tasks …). */
    waitingReason: z.string().nullable(),
    attempt: z.int(),
    /** When the next try begins. */
    nextAttemptAt: optionalTime,
    operationId: z.string().nullable(),
    counters: Counters,
    /** Bytes in all; 0 until known. */
    totalBytes: bytes,
    disks: z.array(TaskDisk),
    notes: z.array(z.object({ at: time, code: z.string(), severity: Severity, message: z.string(), diskId: z.string() })),
    failure: Failure.nullable(),
    /** The restore point made (backup) or used. */
    pointId: z.string().nullable(),
    /** Restores: VM or disk made, or the file's path. */
    createdId: z.string().nullable(),
    leftForJanitor: z.array(z.string()),
    /** Verifications: what is damaged, at most 1000. */
    findings: z.array(
      z.object({
        code: z.string(),
        pointId: z.string(),
        diskId: z.string(),
        offsetBytes: bytes.nullable(),
        objectName: z.string(),
        message: z.string(),
      }),
    ),
    startedAt: optionalTime,
    endedAt: optionalTime,
    /** Grows with every change within the session; the id of its event. */
    sequence: z.int(),
  }),
);
export const Session = named(
  'Session',
  z.object({
    id: z.string(),
    kind: SessionKind,
    jobId: z.string().nullable(),
    jobName: z.string(),
    repositoryId: z.string(),
    repositoryName: z.string(),
    state: SessionState,
    trigger: z.enum(['user', 'schedule']),
    /** What is wrong with the session as a whole, e.g. nothing selected. */
    failure: Failure.nullable(),
    stopping: z.boolean(),
    taskCount: z.int(),
    finishedTaskCount: z.int(),
    counters: Counters,
    startedAt: time,
    endedAt: optionalTime,
    sequence: z.int(),
  }),
);
export const SessionDetail = named('SessionDetail', Session.extend({ tasks: z.array(Task) }));
export const SessionQuery = Paging.extend({
  job: reference.optional(),
  kind: SessionKind.optional(),
  state: SessionState.optional(),
});
/**
 * `GET /sessions/{id}/events` as text/event-stream: events `task` (a Task), `session` (a Session) and, last, `end` (the final Session). The
 * event id is the sequence; Last-Event-ID resumes behind it. Only the latest state of each task is sent. A comment line comes every 10 s.
 */
export const SessionEventsQuery = z.object({ after: z.coerce.number().int().min(0).default(0) });

// --- restores -----------------------------------------------------------------------------------------------------------------------
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
  /** Disk ids or names; all when empty. */
  disks: z.array(reference).max(500).default([]),
});
export const RestoreDiskRequest = z.object({
  point: reference,
  disk: reference,
  platform: reference.optional(),
  storageDomain: reference,
  name: z.string().max(255).optional(),
});
export const RestoreFileRequest = z.object({
  point: reference,
  disk: reference,
  /** Absolute, on the machine of a worker beside the server. */
  path: z.string().min(1).max(4096),
  format: z.enum(['raw', 'qcow2']).default('raw'),
});

// --- what happened ------------------------------------------------------------------------------------------------------------------
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

export const Lists = {
  plugins: list(Plugin),
  movers: list(Mover),
  workers: list(Worker),
  platforms: list(Platform),
  vms: page(Vm),
  verdicts: list(PreflightVerdict),
  repositories: list(Repository),
  points: page(Point),
  jobs: list(Job),
  jobPreview: list(Vm),
  sessions: page(Session),
  events: page(Event),
  audit: page(AuditEntry),
};
