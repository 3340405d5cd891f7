/** Maintenance of repositories, and copies of the configuration. */
import * as S from '../schemas';
import type { Route } from './route';

export const maintenanceRoutes = {
  repositoryVerify: {
    method: 'POST',
    path: '/repositories/:id/verify',
    summary: 'Verify a repository; a session.',
    body: S.VerifyRequest,
    reply: S.Session,
    status: 202,
  },
  repositoryCollect: {
    method: 'POST',
    path: '/repositories/:id/collect',
    summary: 'Give back what no point and no session needs; a session.',
    body: S.CollectRequest,
    reply: S.Session,
    status: 202,
  },
  repositoryCollectUndo: {
    method: 'POST',
    path: '/repositories/:id/collect/undo',
    summary: 'Take back what collections condemned and did not delete yet.',
    reply: S.CollectUndone,
  },
  repositoryImport: {
    method: 'POST',
    path: '/repositories/:id/import',
    summary: 'Make the catalogue anew from a repository.',
    reply: S.Imported,
  },
  pointRemove: {
    method: 'POST',
    path: '/points/:id/remove',
    summary: 'Remove a restore point; can be undone until a collection deletes it.',
    reply: S.PointRemoved,
  },
  pointUndoRemove: {
    method: 'POST',
    path: '/points/:id/undo-remove',
    summary: 'Take a removal back.',
    body: S.UndoRemoveRequest,
    reply: S.Point,
  },
  pointHold: { method: 'POST', path: '/points/:id/hold', summary: 'Keep a restore point from being removed.', reply: S.Point },
  pointRelease: { method: 'POST', path: '/points/:id/release', summary: 'Let a restore point be removed again.', reply: S.Point },
  pointRemovedList: {
    method: 'GET',
    path: '/removed-points',
    summary: 'Restore points that were removed and are not deleted yet.',
    query: S.RemovedQuery,
    reply: S.Lists.removedPoints,
  },
  configurationCopy: {
    method: 'POST',
    path: '/config/copies',
    summary: 'Copy the configuration into one repository, or into all, now.',
    body: S.CopyRequest,
    reply: S.Lists.configurationCopies,
  },
  configurationKeyShow: {
    method: 'GET',
    path: '/config/key',
    summary: 'Which recovery key copies of the configuration are sealed for.',
    reply: S.ConfigurationKey,
  },
  configurationKeyShowOnce: {
    method: 'POST',
    path: '/config/key/show-once',
    summary: 'The recovery key of the configuration, the first time.',
    reply: S.ConfigurationRecoveryKey,
  },
  configurationKeyRenew: {
    method: 'POST',
    path: '/config/key/renew',
    summary: 'Another recovery key for copies of the configuration from now on.',
    reply: S.ConfigurationRecoveryKey,
  },
} as const satisfies Record<string, Route>;
