import type { HoldStore } from '../catalogue/hold-store';
import type { PointStore } from '../catalogue/point-store';
import type { SessionStore } from '../catalogue/session-store';
import type { ConfigurationCopies } from '../configuration/configuration-copies';
import type { ConfigurationKey } from '../configuration/configuration-key';
import { HostErrors } from '../errors/host-errors';
import type { SessionEngine } from '../jobs/session-engine';
import type { SessionRecord } from '../jobs/session-record';
import type { PointMaintenance } from '../maintenance/point-maintenance';
import type { Repositories } from '../repositories/repositories';
import type { Handlers } from './handler-types';
import { pointView, sessionView } from './views';

type Names =
  | `repository${'Verify' | 'Collect' | 'CollectUndo' | 'Import'}`
  | `point${'Remove' | 'UndoRemove' | 'Hold' | 'Release' | 'RemovedList'}`
  | `configuration${'Copy' | 'KeyShow' | 'KeyShowOnce' | 'KeyRenew'}`;

/** Maintenance of repositories, removed and held points, and copies of the configuration. */
export function maintenanceHandlers(parts: {
  readonly repositories: Repositories;
  readonly points: PointStore;
  readonly holds: HoldStore;
  readonly maintenance: PointMaintenance;
  readonly engine: SessionEngine;
  readonly sessions: SessionStore;
  readonly copies: ConfigurationCopies;
  readonly key: ConfigurationKey;
  readonly now: () => Date;
}): Pick<Handlers, Names> {
  const { repositories, points, holds, maintenance, engine, sessions, copies, key, now } = parts;
  const session = async (record: SessionRecord) => sessionView(record, await sessions.tasks(record.id));
  const point = async (id: string) => {
    const found = await points.find(id);
    if (!found) throw HostErrors.POINT_UNKNOWN({ point: id });
    return pointView(found, (await repositories.row(found.repositoryId)).name, (await holds.of(id))?.heldAt);
  };
  return {
    repositoryVerify: async ({ id, body }) =>
      session(await engine.startMaintenance({ kind: 'verify', pointId: '', ...body }, await repositories.row(id), 'user')),
    repositoryCollect: async ({ id, body }) =>
      session(await engine.startMaintenance({ kind: 'collect', ...body }, await repositories.row(id), 'user')),
    repositoryCollectUndo: ({ id }) => maintenance.undoCollect(id),
    repositoryImport: ({ id }) => maintenance.import(id),

    pointRemove: ({ id }) => maintenance.remove(id),
    pointUndoRemove: async ({ id, body }) => point((await maintenance.undoRemove(id, body.repository)).id),
    pointHold: async ({ id, login }) => {
      await maintenance.hold(id, login.name);
      return point(id);
    },
    pointRelease: async ({ id }) => {
      await maintenance.release(id);
      return point(id);
    },
    pointRemovedList: async ({ query }) => {
      const names = new Map((await repositories.list()).map(({ row }) => [row.id, row.name]));
      const removed = await maintenance.removed(query.repository);
      return { items: removed.map((one) => ({ ...one, point: pointView(one.point, names.get(one.point.repositoryId) ?? '', undefined) })) };
    },

    configurationCopy: async ({ body }) => {
      const rows =
        body.repository === undefined ? (await repositories.list()).map(({ row }) => row) : [await repositories.row(body.repository)];
      const items = [];
      for (const row of rows) items.push(await copies.copyTo(row));
      return { items };
    },
    configurationKeyShow: async () => ({ createdAt: key.createdAt, fingerprint: key.fingerprint, wasShown: key.wasShown }),
    configurationKeyShowOnce: async () => ({ recoveryKey: key.showOnce().reveal(), fingerprint: key.fingerprint }),
    configurationKeyRenew: async () => ({ recoveryKey: key.renew(now()).reveal(), fingerprint: key.fingerprint }),
  };
}
