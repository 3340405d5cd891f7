/** Tables of the catalogue as Kysely sees them. Times are ISO 8601 UTC, truth is 0 or 1, `…Json` holds one JSON document. */
import type { Generated } from 'kysely';

export interface Tables {
  setting: { name: string; valueJson: string };
  user: { id: string; name: string; passwordHash: string; createdAt: string };
  login: { tokenHash: string; userId: string; createdAt: string; expiresAt: string };
  enrolmentToken: {
    tokenHash: string;
    role: string;
    subjectId: string;
    requestId: string | null;
    createdAt: string;
    expiresAt: string;
    /** SHA-256 of the certificate request that used it up. */
    usedByRequest: string | null;
    certificateChainPem: string | null;
  };
  identity: {
    id: string;
    role: string;
    /** Plug-in that passed a worker's enrolment on. */
    enrolledThrough: string | null;
    instanceId: string;
    hostName: string;
    version: string;
    addressesJson: string;
    enrolledAt: string;
    /** Plug-ins are used only once an administrator enabled them. */
    enabled: number;
    revokedAt: string | null;
    /** Keeps its identity in memory and enrols at each start (worker VMs). */
    enrolsAtStart: number;
  };
  certificate: {
    serialNumber: string;
    subjectId: string;
    role: string;
    /** SHA-256 of the CA that issued it, lower-case hex. */
    issuerFingerprint: string;
    issuedAt: string;
    expiresAt: string;
  };
  peerTrust: {
    subjectId: string;
    /** SHA-256 of each CA that it trusts. */
    trustedJson: string;
    issuerFingerprint: string;
    serialNumber: string;
    expiresAt: string;
    /** When it reported this first. */
    reportedAt: string;
  };
  certificateWarning: { certificate: string; days: number; at: string };
  plugin: {
    id: string;
    instanceId: string;
    pluginId: string;
    processJson: string;
    endpoint: string;
    workerEndpoint: string;
    workerEnrolmentEndpoint: string;
    leaseId: string;
    leaseExpiresAt: string;
    lastSeenAt: string;
    acknowledgedEvent: number;
  };
  mover: {
    id: string;
    instanceId: string;
    processJson: string;
    controlEndpoint: string;
    dataEndpointsJson: string;
    leaseId: string;
    leaseExpiresAt: string;
    lastSeenAt: string;
  };
  platform: { id: string; name: string; pluginId: string };
  /** What the administrator ruled of a mover; no row: nothing. */
  moverRule: { id: string; gateway: number | null; drainingSince: string | null };
  repository: {
    id: string;
    name: string;
    location: string;
    /** The mover on its own machine; empty where only gateways carry data to it. */
    moverId: string;
    /** Ids of the gateways that may carry data to it; empty list: every gateway; null: none. */
    gatewaysJson: string | null;
    /** Gateways that are preferred among equals (`PreferredGateway`), best first; null: none. */
    preferredGatewaysJson: string | null;
    /** What a gateway needs to open it (`RepositorySecrets`), secrets sealed. */
    sealedJson: string | null;
    lastKnownJson: string;
  };
  /** What the server did for a repository beside backups, and what became of it. */
  repositoryCare: {
    repositoryId: string;
    /** Last good copy of the configuration; the last try; why it failed, null when it did not. The same for the others. */
    copiedAt: string | null;
    copyTriedAt: string | null;
    copyFailureJson: string | null;
    collectedAt: string | null;
    collectTriedAt: string | null;
    collectFailureJson: string | null;
    verifiedAt: string | null;
    verifyTriedAt: string | null;
    verifyFailureJson: string | null;
  };
  /** Points that must not be removed. Not with the point: those rows are a cache. */
  pointHold: { pointId: string; repositoryId: string; heldAt: string; heldBy: string };
  job: {
    id: string;
    name: string;
    repositoryId: string;
    enabled: number;
    definitionJson: string;
    createdAt: string;
    /** The schedule's last start, or the time from which starts count. */
    scheduledAt: string;
  };
  session: {
    id: string;
    kind: string;
    jobId: string | null;
    jobName: string;
    repositoryId: string;
    repositoryName: string;
    state: string;
    trigger: string;
    stopping: number;
    requestJson: string;
    failureJson: string | null;
    sequence: number;
    startedAt: string;
    endedAt: string | null;
  };
  task: {
    id: string;
    sessionId: string;
    ordinal: number;
    platformId: string;
    vmId: string;
    vmName: string;
    state: string;
    step: string;
    sequence: number;
    recordJson: string;
  };
  vmLease: { platformId: string; vmId: string; taskId: string; kind: string };
  point: {
    repositoryId: string;
    id: string;
    platformId: string;
    vmId: string;
    vmName: string;
    pointInTime: string;
    damaged: number;
    pointJson: string;
  };
  event: {
    id: Generated<number>;
    at: string;
    source: string;
    severity: string;
    code: string;
    message: string;
    referencesJson: string;
  };
  audit: {
    id: Generated<number>;
    at: string;
    user: string;
    action: string;
    target: string;
    status: number;
    remoteAddress: string;
    correlationId: string;
  };
}
