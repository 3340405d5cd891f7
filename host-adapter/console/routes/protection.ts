/** Repositories, points, jobs, sessions and restores. */
import * as S from '../schemas';
import type { Route } from './route';

export const protectionRoutes = {
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
} as const satisfies Record<string, Route>;
