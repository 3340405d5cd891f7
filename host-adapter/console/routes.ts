/** The public REST API, route by route, below /api/v1. Handlers, OpenAPI and the audit log are made from this table. */
import { z } from 'zod';
import * as S from './schemas';

export interface Route {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Below /api/v1; `:id` takes an id or a name. */
  readonly path: string;
  readonly summary: string;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodObject;
  /** Absent: 204 without a body. */
  readonly reply?: z.ZodType;
  readonly status?: 200 | 201 | 202;
  /** Needs no login. */
  readonly open?: true;
  /** Reads only, although it is a POST: not in the audit log. */
  readonly reads?: true;
  /** Answers text/event-stream. */
  readonly stream?: true;
}

export const routes = {
  login: {
    method: 'POST',
    path: '/login',
    summary: 'Log in; the token goes into "Authorization: Bearer".',
    body: S.LoginRequest,
    reply: S.LoginReply,
    open: true,
  },
  logout: { method: 'POST', path: '/logout', summary: 'End this login.' },
  changePassword: {
    method: 'POST',
    path: '/password',
    summary: 'Change the own password; ends all other logins.',
    body: S.PasswordRequest,
  },
  health: { method: 'GET', path: '/health', summary: 'Is the server up?', reply: S.Health, open: true },
  doctor: { method: 'GET', path: '/doctor', summary: 'Checks of the whole installation.', reply: S.Doctor },
  configShow: { method: 'GET', path: '/config', summary: 'Settings, endpoints and the CA fingerprint.', reply: S.Config },
  configEdit: { method: 'PATCH', path: '/config', summary: 'Change settings.', body: S.SettingsChange, reply: S.Config },

  pluginList: { method: 'GET', path: '/plugins', summary: 'Plug-ins.', reply: S.Lists.plugins },
  pluginEnrol: {
    method: 'POST',
    path: '/plugins/enrolment-tokens',
    summary: 'A one-time token for a plug-in.',
    body: S.EnrolmentTokenRequest,
    reply: S.EnrolmentToken,
    status: 201,
  },
  pluginShow: { method: 'GET', path: '/plugins/:id', summary: 'One plug-in.', reply: S.Plugin },
  pluginEnable: { method: 'POST', path: '/plugins/:id/enable', summary: 'Let the server use a plug-in.', reply: S.Plugin },
  pluginDisable: { method: 'POST', path: '/plugins/:id/disable', summary: 'Stop using a plug-in.', reply: S.Plugin },

  moverList: { method: 'GET', path: '/movers', summary: 'Movers.', reply: S.Lists.movers },
  moverEnrol: {
    method: 'POST',
    path: '/movers/enrolment-tokens',
    summary: 'A one-time token for a mover.',
    body: S.EnrolmentTokenRequest,
    reply: S.EnrolmentToken,
    status: 201,
  },
  moverShow: { method: 'GET', path: '/movers/:id', summary: 'One mover.', reply: S.Mover },

  workerList: { method: 'GET', path: '/workers', summary: 'Workers of all plug-ins.', reply: S.Lists.workers },
  workerEnrol: {
    method: 'POST',
    path: '/workers/enrolment-tokens',
    summary: 'A one-time token for a worker.',
    body: S.EnrolmentTokenRequest,
    reply: S.EnrolmentToken,
    status: 201,
  },
  workerDrain: { method: 'POST', path: '/workers/:id/drain', summary: 'No new tasks for a worker.' },

  platformInspect: {
    method: 'POST',
    path: '/platforms/inspect',
    summary: 'Fetch the CA of an engine, to compare its fingerprint.',
    body: S.PlatformInspectRequest,
    reply: S.PlatformInspection,
    reads: true,
  },
  platformAdd: {
    method: 'POST',
    path: '/platforms',
    summary: 'Connect an engine.',
    body: S.PlatformAddRequest,
    reply: S.Platform,
    status: 201,
  },
  platformList: { method: 'GET', path: '/platforms', summary: 'Connected engines.', reply: S.Lists.platforms },
  platformShow: { method: 'GET', path: '/platforms/:id', summary: 'One engine.', reply: S.Platform },
  platformEdit: {
    method: 'PATCH',
    path: '/platforms/:id',
    summary: 'New credentials or CA fingerprint.',
    body: S.PlatformChange,
    reply: S.Platform,
  },
  platformRemove: { method: 'DELETE', path: '/platforms/:id', summary: 'Forget an engine.' },
  platformRescan: {
    method: 'POST',
    path: '/platforms/:id/rescan',
    summary: 'Read the inventory afresh.',
    reply: S.PlatformRescan,
    reads: true,
  },
  platformTest: {
    method: 'POST',
    path: '/platforms/:id/test',
    summary: 'Connection, version and permission probe.',
    reply: S.PlatformTest,
    reads: true,
  },
  platformTargets: {
    method: 'GET',
    path: '/platforms/:id/targets',
    summary: 'Clusters, storage domains and vNIC profiles to restore to.',
    reply: S.Targets,
  },

  vmList: { method: 'GET', path: '/vms', summary: 'VMs with their protection state.', query: S.VmQuery, reply: S.Lists.vms },
  vmPreflight: {
    method: 'POST',
    path: '/vms/preflight',
    summary: 'Can these VMs be backed up, and how?',
    body: S.PreflightRequest,
    reply: S.Lists.verdicts,
    reads: true,
  },
  vmShow: {
    method: 'GET',
    path: '/vms/:id',
    summary: 'One VM with disks and NICs.',
    query: z.object({ platform: z.string().optional() }),
    reply: S.VmDetail,
  },

  repositoryAdd: {
    method: 'POST',
    path: '/repositories',
    summary: 'Make a repository, or take over an existing one.',
    body: S.RepositoryAddRequest,
    reply: S.Repository,
    status: 201,
  },
  repositoryList: { method: 'GET', path: '/repositories', summary: 'Repositories.', reply: S.Lists.repositories },
  repositoryShow: { method: 'GET', path: '/repositories/:id', summary: 'One repository.', reply: S.Repository },
  repositoryVerify: {
    method: 'POST',
    path: '/repositories/:id/verify',
    summary: 'Verify all points; a session.',
    reply: S.Session,
    status: 202,
  },
  repositoryRemove: { method: 'DELETE', path: '/repositories/:id', summary: 'Stop using a repository; its data stays.' },

  pointList: { method: 'GET', path: '/points', summary: 'Restore points, newest first.', query: S.PointQuery, reply: S.Lists.points },
  pointShow: { method: 'GET', path: '/points/:id', summary: 'One restore point.', reply: S.Point },
  pointVerify: { method: 'POST', path: '/points/:id/verify', summary: 'Verify one point; a session.', reply: S.Session, status: 202 },

  jobCreate: { method: 'POST', path: '/jobs', summary: 'Define a job.', body: S.JobCreateRequest, reply: S.Job, status: 201 },
  jobPreview: {
    method: 'POST',
    path: '/jobs/preview',
    summary: 'The VMs that a selector matches now.',
    body: S.JobPreviewRequest,
    reply: S.Lists.jobPreview,
    reads: true,
  },
  jobList: { method: 'GET', path: '/jobs', summary: 'Jobs.', reply: S.Lists.jobs },
  jobShow: { method: 'GET', path: '/jobs/:id', summary: 'One job.', reply: S.Job },
  jobEdit: { method: 'PATCH', path: '/jobs/:id', summary: 'Change a job.', body: S.JobChange, reply: S.Job },
  jobRun: {
    method: 'POST',
    path: '/jobs/:id/run',
    summary: 'Run a job now; a session.',
    body: S.JobRunRequest,
    reply: S.Session,
    status: 202,
  },
  jobEnable: { method: 'POST', path: '/jobs/:id/enable', summary: 'Let the schedule start a job.', reply: S.Job },
  jobDisable: { method: 'POST', path: '/jobs/:id/disable', summary: 'Keep the schedule from starting a job.', reply: S.Job },
  jobRemove: { method: 'DELETE', path: '/jobs/:id', summary: 'Remove a job; its points stay.' },

  sessionList: { method: 'GET', path: '/sessions', summary: 'Sessions, newest first.', query: S.SessionQuery, reply: S.Lists.sessions },
  sessionShow: { method: 'GET', path: '/sessions/:id', summary: 'One session with its tasks.', reply: S.SessionDetail },
  sessionEvents: {
    method: 'GET',
    path: '/sessions/:id/events',
    summary: 'Live progress as server-sent events; Last-Event-ID resumes.',
    query: S.SessionEventsQuery,
    stream: true,
  },
  sessionStop: { method: 'POST', path: '/sessions/:id/stop', summary: 'Cancel what still runs.', reply: S.Session, status: 202 },
  sessionRetry: {
    method: 'POST',
    path: '/sessions/:id/retry',
    summary: 'Run again what did not succeed; a new session.',
    reply: S.Session,
    status: 202,
  },

  restoreVm: {
    method: 'POST',
    path: '/restores/vm',
    summary: 'Restore a VM as a new VM; a session.',
    body: S.RestoreVmRequest,
    reply: S.Session,
    status: 202,
  },
  restoreDisk: {
    method: 'POST',
    path: '/restores/disk',
    summary: 'Restore one disk as a new disk; a session.',
    body: S.RestoreDiskRequest,
    reply: S.Session,
    status: 202,
  },
  restoreFile: {
    method: 'POST',
    path: '/restores/file',
    summary: 'Restore one disk to a file; a session.',
    body: S.RestoreFileRequest,
    reply: S.Session,
    status: 202,
  },

  janitorReport: { method: 'GET', path: '/janitor', summary: 'What crashes left behind, and what became of it.', reply: S.JanitorReport },
  janitorSweep: { method: 'POST', path: '/janitor/sweep', summary: 'Sweep now.', reply: S.JanitorReport },
  eventList: { method: 'GET', path: '/events', summary: 'Events, newest first.', query: S.EventQuery, reply: S.Lists.events },
  auditList: { method: 'GET', path: '/audit', summary: 'Who changed what, newest first.', query: S.Paging, reply: S.Lists.audit },
} as const satisfies Record<string, Route>;

export type RouteName = keyof typeof routes;
