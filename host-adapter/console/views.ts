/** Records of the inside as the shapes of the REST API. Pure. */
import type { z } from 'zod';
import { timestampFromWire } from '../../common/rpc/bytes';
import type { WireTimestamp } from '../../common/rpc/bytes';
import { failureError } from '../../common/rpc/failure-message';
import type { Platform__Output } from '../../proto/gen/tidemark/plugin/v1/Platform';
import type { PreflightVerdict__Output } from '../../proto/gen/tidemark/plugin/v1/PreflightVerdict';
import type { Vm__Output } from '../../proto/gen/tidemark/plugin/v1/Vm';
import type { Leftover__Output } from '../../proto/gen/tidemark/plugin/v1/Leftover';
import type { RepositoryCare } from '../catalogue/care-store';
import type { StoredJob } from '../catalogue/job-store';
import type { StoredPoint } from '../catalogue/point-store';
import type { PlatformRow } from '../catalogue/platform-store';
import { namedGateways, preferredGateways } from '../data-paths/candidates';
import { noteSeverity } from '../jobs/operation-follower';
import { nextRun } from '../jobs/schedule';
import type { Schedule } from '../jobs/schedule';
import type { SessionOrder, SessionRecord } from '../jobs/session-record';
import { storedFailure } from '../jobs/task-context';
import { isFinal } from '../jobs/task-machine';
import { sumCounters } from '../jobs/task-record';
import type { TaskPath, TaskRecord } from '../jobs/task-record';
import type { RegisteredMover } from '../registry/mover-registry';
import type { RegisteredPlugin } from '../registry/plugin-registry';
import { readModeOf } from '../repositories/point-mapping';
import { settingsOf } from '../repositories/repository-settings';
import type { RepositoryView } from '../repositories/repositories';
import type * as S from './schemas';

const iso = (time: WireTimestamp | null | undefined): string | null => timestampFromWire(time)?.toISOString() ?? null;
/** Of two ISO times. */
const latest = (a: string | null, b: string | null): string | null => ((a ?? '') > (b ?? '') ? a : b);
const orNull = (text: string): string | null => (text === '' ? null : text);

function processView(known: RegisteredPlugin | RegisteredMover) {
  const { identity, registration, process, connected } = known;
  return {
    id: identity.id,
    hostName: process?.hostName ?? identity.hostName,
    version: process?.version ?? identity.version,
    protocols: [...(process?.protocols ?? [])],
    capabilities: [...(process?.capabilities ?? [])],
    state: connected ? ('connected' as const) : registration ? ('lost' as const) : ('enrolled' as const),
    enrolledAt: identity.enrolledAt,
    lastSeenAt: registration?.lastSeenAt ?? null,
    leaseExpiresAt: registration?.leaseExpiresAt ?? null,
  };
}

export function pluginView(plugin: RegisteredPlugin): z.infer<typeof S.Plugin> {
  const { registration } = plugin;
  return {
    ...processView(plugin),
    pluginId: registration?.pluginId ?? '',
    enabled: plugin.enabled,
    endpoint: registration?.endpoint ?? '',
    workerEndpoint: registration?.workerEndpoint ?? '',
    workerEnrolmentEndpoint: registration?.workerEnrolmentEndpoint ?? '',
  };
}

export function moverView(mover: RegisteredMover, openSessionCount: number, repositories: readonly string[]): z.infer<typeof S.Mover> {
  const { registration, gateway, drainingSince } = mover;
  return {
    ...processView(mover),
    controlEndpoint: registration?.controlEndpoint ?? '',
    dataEndpoints: registration ? (JSON.parse(registration.dataEndpointsJson) as string[]) : [],
    gateway,
    drainingSince,
    openSessionCount,
    repositories: [...repositories],
  };
}

export function platformView(row: PlatformRow, platform: Platform__Output | undefined): z.infer<typeof S.Platform> {
  const unavailable = platform ? platform.unavailable : undefined;
  return {
    id: row.id,
    name: row.name,
    pluginId: row.pluginId,
    url: platform?.url ?? '',
    username: platform?.username ?? '',
    caFingerprint: platform?.caFingerprint ?? '',
    engineVersion: platform?.engineVersion ?? '',
    unavailable: platform
      ? unavailable
        ? storedFailure(failureError(unavailable))
        : null
      : { code: 'PLUGIN_LOST', message: 'Its plug-in cannot be asked now.', retry: 'same-request' },
    lastContactAt: iso(platform?.lastContactAt),
  };
}

/** What protection states are made from. */
export interface ProtectionFacts {
  readonly points: ReadonlyMap<string, { readonly count: number; readonly lastAt: string; readonly lastId: string }>;
  readonly failed: ReadonlySet<string>;
  readonly now: Date;
}

const dayMs = 86_400_000;

export function vmView(vm: Vm__Output, facts: ProtectionFacts): z.infer<typeof S.Vm> {
  const key = `${vm.platformId}/${vm.vmId}`;
  const points = facts.points.get(key);
  const recent = points !== undefined && facts.now.getTime() - Date.parse(points.lastAt) < dayMs;
  const state = !points ? 'unprotected' : recent ? 'protected' : 'outdated';
  return {
    platformId: vm.platformId,
    id: vm.vmId,
    name: vm.name,
    status: vm.status,
    clusterId: vm.clusterId,
    clusterName: vm.clusterName,
    compatibilityLevel: vm.compatibilityLevel,
    tags: vm.tags,
    description: vm.description,
    operatingSystem: vm.operatingSystem,
    diskCount: vm.diskCount,
    provisionedBytes: Number(vm.provisionedBytes),
    protection: {
      state: facts.failed.has(key) ? 'failed' : state,
      lastPointId: points?.lastId ?? null,
      lastPointAt: points ? orNull(points.lastAt) : null,
      pointCount: points?.count ?? 0,
    },
  };
}

export function verdictView(verdict: PreflightVerdict__Output): z.infer<typeof S.PreflightVerdict> {
  const { platformId, vmId, vmName, canBackUp, retryLater, findings, disks } = verdict;
  return {
    platformId,
    vmId,
    vmName,
    canBackUp,
    retryLater,
    findings: findings.map(({ code, severity, message, advice, diskId }) => ({
      code,
      severity: noteSeverity(severity),
      message,
      advice,
      diskId,
    })),
    disks: disks.map(({ diskId, name, mode, reason }) => ({ diskId, name, mode: readModeOf(mode), reason })),
  };
}

export function repositoryView({ row, known, unavailable }: RepositoryView, care?: RepositoryCare): z.infer<typeof S.Repository> {
  return {
    id: row.id,
    name: row.name,
    location: row.location,
    moverId: row.moverId,
    gateways: namedGateways(row) ?? null,
    preferredGateways: preferredGateways(row).map(({ moverId, cluster }) => ({ moverId, cluster: cluster && { ...cluster } })),
    state: unavailable ? 'unavailable' : 'available',
    reason: unavailable?.reason ?? null,
    message: unavailable?.message ?? null,
    blockSizeBytes: known?.settings?.blockSizeBytes ?? 0,
    ...settingsOf(known),
    formatVersion: known?.formatVersion ?? 0,
    createdAt: iso(known?.createdAt),
    pointCount: Number(known?.pointCount ?? 0),
    storedBytes: Number(known?.storedBytes ?? 0),
    freeBytes: Number(known?.freeBytes ?? 0),
    blockCount: Number(known?.blockCount ?? 0),
    openSessionCount: known?.openSessionCount ?? 0,
    encrypted: known?.encrypted ?? false,
    condemnedBytes: Number(known?.condemnedBytes ?? 0),
    removedPointCount: Number(known?.removedPointCount ?? 0),
    quarantinedBlockCount: Number(known?.quarantinedBlockCount ?? 0),
    verifiedSince: iso(known?.verifiedSince),
    lastCollectedAt: latest(iso(known?.lastCollectedAt), care?.collect.doneAt ?? null),
    care: care ?? null,
  };
}

export function pointView(point: StoredPoint, repositoryName: string, heldAt: string | undefined): z.infer<typeof S.Point> {
  const { pointInTime, committedAt, disks, ...rest } = point;
  return {
    ...rest,
    repositoryName,
    pointInTime: orNull(pointInTime),
    committedAt: orNull(committedAt),
    heldAt: heldAt ?? null,
    disks: disks.map((disk) => ({ ...disk, counters: { ...disk.counters } })),
  };
}

export function jobView(job: StoredJob, repositoryName: string, last: SessionRecord | undefined, now: Date): z.infer<typeof S.Job> {
  const { definition } = job;
  const { schedule, selector } = definition;
  const next = job.enabled && schedule ? nextOf(schedule, now) : undefined;
  return {
    id: job.id,
    name: job.name,
    enabled: job.enabled,
    description: definition.description,
    selector: { include: [...selector.include], exclude: [...selector.exclude] },
    excludedDiskIds: [...definition.excludedDiskIds],
    schedule: schedule && { cron: schedule.cron, ...(schedule.timeZone === undefined ? {} : { timeZone: schedule.timeZone }) },
    retention: { ...definition.retention },
    limits: { ...definition.limits },
    requireConsistency: definition.requireConsistency,
    transport: definition.transport ?? 'auto',
    repositoryId: job.repositoryId,
    repositoryName,
    createdAt: job.createdAt,
    nextRunAt: next?.toISOString() ?? null,
    lastSessionId: last?.id ?? null,
    lastSessionState: last?.state ?? null,
    lastSessionAt: last?.startedAt ?? null,
  };
}

/** One that cannot be read (any more) is an event of the scheduler's, and no reason not to list the job. */
function nextOf(schedule: Schedule, now: Date): Date | undefined {
  try {
    return nextRun(schedule, now);
  } catch {
    return undefined;
  }
}

export function taskView(task: TaskRecord): z.infer<typeof S.Task> {
  return {
    id: task.id,
    sessionId: task.sessionId,
    platformId: task.platformId,
    vmId: task.vmId,
    vmName: task.vmName,
    state: task.state,
    waitingReason: task.waitingReason,
    attempt: task.attempt,
    nextAttemptAt: task.nextAttemptAt,
    operationId: task.operationId,
    path: task.path ? pathView(task.path) : null,
    counters: sumCounters(task.disks.map((disk) => disk.counters)),
    totalBytes: task.totalBytes,
    disks: task.disks.map((disk) => ({
      ...disk,
      transport: disk.transport ?? null,
      workerId: disk.workerId ?? null,
      workerName: disk.workerName ?? null,
      workerHop: disk.workerHop ?? null,
      durationMs: disk.startedAt && disk.endedAt ? Math.max(0, Date.parse(disk.endedAt) - Date.parse(disk.startedAt)) : null,
    })),
    notes: task.notes.map((note) => ({ ...note })),
    failure: task.failure,
    pointId: task.pointId,
    createdId: task.createdId,
    leftForJanitor: task.leftForJanitor,
    collection: task.collection ?? null,
    findings: task.findings.map(({ pointInTime = '', vmId = '', vmName = '', diskName = '', ...finding }) => ({
      ...finding,
      pointInTime: orNull(pointInTime),
      vmId: orNull(vmId),
      vmName: orNull(vmName),
      diskName: orNull(diskName),
    })),
    startedAt: task.startedAt,
    endedAt: task.endedAt,
    sequence: task.sequence,
  };
}

function pathView({ moverId, moverName, reason, message, before }: TaskPath): z.infer<typeof S.TaskPath> {
  return { moverId, moverName, reason, message, before: [...before] };
}

export function sessionView(session: SessionRecord, tasks: readonly TaskRecord[]): z.infer<typeof S.Session> {
  const { order, ...rest } = session;
  return {
    ...rest,
    subject: subjectOf(session, order, tasks),
    taskCount: tasks.length,
    finishedTaskCount: tasks.filter((task) => isFinal(task.state)).length,
    counters: sumCounters(tasks.flatMap((task) => task.disks.map((disk) => disk.counters))),
  };
}

function subjectOf(session: SessionRecord, order: SessionOrder, [task]: readonly TaskRecord[]): string {
  switch (order.kind) {
    case 'backup':
      return session.jobName;
    case 'restore':
      return task?.vmName ?? '';
    case 'collect':
      return session.repositoryName;
    case 'verify':
      return order.pointId === '' ? session.repositoryName : (task?.vmName ?? '');
    case 'worker':
      return `${order.action.name} ${task?.vmName ?? ''}`;
  }
}

export function leftoverView(pluginId: string, leftover: Leftover__Output): z.infer<typeof S.Leftover> {
  const { platformId, kind, id, vmId, operationId, message } = leftover;
  const state = (['pending', 'removed', 'stuck'] as const).find((one) => leftover.state.endsWith(one.toUpperCase())) ?? 'unknown';
  return {
    pluginId,
    platformId,
    kind,
    id,
    vmId,
    operationId,
    state,
    message,
    foundAt: iso(leftover.foundAt),
    settledAt: iso(leftover.settledAt),
  };
}
