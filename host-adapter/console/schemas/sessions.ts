/** Sessions and their tasks. */
import { z } from 'zod';
import { bytes, Failure, named, optionalTime, Paging, reference, time } from './common';
import { ReadMode, Severity } from './inventory';
import { TaskPath } from './movers';
import { Counters } from './repositories';

const finalStates = ['success', 'warning', 'partial', 'skipped', 'failed', 'cancelled'] as const;
export const SessionState = z.enum(['running', 'retry-wait', ...finalStates]);
export const SessionKind = z.enum(['backup', 'restore', 'verify', 'collect', 'worker']);
export const TaskState = z.enum(['queued', 'preparing', 'starting', 'transferring', 'committing', 'cleaning', ...finalStates]);
export const TaskDisk = z.object({
  diskId: z.string(),
  name: z.string(),
  sizeBytes: bytes,
  mode: ReadMode,
  /** Why not incremental; empty when it is. */
  reason: z.string(),
  /** proxy: through the engine, not straight from the host; attached: the disk was plugged into the worker. */
  path: z.enum(['direct', 'proxy', 'attached']),
  /** How the worker got at the disk; null until it is done. */
  transport: z.enum(['image-transfer', 'attachment']).nullable(),
  workerId: z.string().nullable(),
  workerName: z.string().nullable(),
  /** How far the worker was; a note tells why it was not one of the VM's cluster. */
  workerHop: z.string().nullable(),
  counters: Counters,
  startedAt: optionalTime,
  endedAt: optionalTime,
  durationMs: z.int().nullable(),
});
export const TaskCollection = z.object({
  /** preparing, deleting, marking, repacking, condemning, done. */
  step: z.string(),
  done: z.int(),
  total: z.int(),
  result: z
    .object({
      deletedPacks: z.int(),
      deletedBytes: bytes,
      deletedPoints: z.int(),
      condemnedPacks: z.int(),
      condemnedBytes: bytes,
      rewrittenPacks: z.int(),
      rewrittenBytes: bytes,
      storedBytes: bytes,
      neededBytes: bytes,
      /** When what was condemned may be deleted. */
      deletedAfter: optionalTime,
      waitingCollections: z.int(),
    })
    .nullable(),
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
    /** The mover that carries its session, and why; null until one was chosen. */
    path: TaskPath.nullable(),
    counters: Counters,
    /** Bytes in all; 0 until known. */
    totalBytes: bytes,
    disks: z.array(TaskDisk),
    notes: z.array(z.object({ at: time, code: z.string(), severity: Severity, message: z.string(), diskId: z.string() })),
    failure: Failure.nullable(),
    /** The restore point made (backup) or used. */
    pointId: z.string().nullable(),
    /** Restores: VM or disk made, or the file's path. Workers: the worker's id. */
    createdId: z.string().nullable(),
    leftForJanitor: z.array(z.string()),
    /** Collections: how far, and what came of it; null of other kinds. */
    collection: TaskCollection.nullable(),
    /** Verifications: what is damaged, at most 1000. Names are as the catalogue has them; null: it does not know the point, or it is of none. */
    findings: z.array(
      z.object({
        code: z.string(),
        pointId: z.string(),
        pointInTime: optionalTime,
        vmId: z.string().nullable(),
        vmName: z.string().nullable(),
        diskId: z.string(),
        diskName: z.string().nullable(),
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
    /** What it is about: the job, the VM, the repository, or what is done to which worker. */
    subject: z.string(),
    jobId: z.string().nullable(),
    jobName: z.string(),
    /** Empty for workers. */
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
