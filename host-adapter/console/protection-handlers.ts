import { randomUUID } from 'node:crypto';
import type { JobStore, StoredJob } from '../catalogue/job-store';
import type { CareStore } from '../catalogue/care-store';
import type { HoldStore } from '../catalogue/hold-store';
import type { PointStore, StoredPoint } from '../catalogue/point-store';
import type { SessionStore } from '../catalogue/session-store';
import { HostErrors } from '../errors/host-errors';
import type { JobDefinition } from '../jobs/job-definition';
import { checkSchedule } from '../jobs/schedule';
import { parseExpression } from '../jobs/selector';
import type { SessionEngine } from '../jobs/session-engine';
import type { SessionRecord } from '../jobs/session-record';
import type { Platforms } from '../inventory/platforms';
import type { Repositories, RepositoryView } from '../repositories/repositories';
import { RepositoryKeys } from '../repositories/repository-keys';
import type { RepositoryEdit } from '../repositories/repository-edit';
import type { PlannedRestore, RestorePlanner } from '../restores/restore-planner';
import type { Handlers } from './handler-types';
import { jobView, pointView, repositoryView, sessionView, taskView } from './views';

type Names =
  | `repository${'Add' | 'List' | 'Show' | 'Edit' | 'Remove' | 'KeyList' | 'KeyAdd' | 'KeyRemove' | 'KeyRotate'}`
  | `point${'List' | 'Show' | 'Verify'}`
  | `job${'Create' | 'List' | 'Show' | 'Edit' | 'Run' | 'Enable' | 'Disable' | 'Remove'}`
  | `session${'List' | 'Show' | 'Stop' | 'Retry'}`
  | `restore${'Vm' | 'Disk' | 'File'}`;

/** Repositories, points, jobs, sessions and restores. */
export function protectionHandlers(parts: {
  readonly repositories: Repositories;
  readonly edit: RepositoryEdit;
  readonly points: PointStore;
  readonly holds: HoldStore;
  readonly care: CareStore;
  readonly jobs: JobStore;
  readonly sessions: SessionStore;
  readonly engine: SessionEngine;
  readonly platforms: Platforms;
  readonly planner: RestorePlanner;
  readonly now: () => Date;
}): Pick<Handlers, Names> {
  const { repositories, edit, points, holds, care, jobs, sessions, engine, platforms, planner, now } = parts;
  const keys = new RepositoryKeys(repositories);

  const session = async (record: SessionRecord) => sessionView(record, await sessions.tasks(record.id));
  const cared = async (one: RepositoryView) => repositoryView(one, await care.of(one.row.id));
  const pointBy = async (id: string): Promise<StoredPoint> => {
    const point = await points.find(id);
    if (!point) throw HostErrors.POINT_UNKNOWN({ point: id });
    return point;
  };
  const names = async () => new Map((await repositories.rows()).map(({ id, name }) => [id, name]));
  const jobBy = async (reference: string): Promise<StoredJob> => {
    const job = await jobs.find(reference);
    if (!job) throw HostErrors.JOB_NOT_FOUND({ job: reference });
    return job;
  };
  const view = async (job: StoredJob) => {
    const repository = await repositories.row(job.repositoryId);
    return jobView(job, repository.name, (await sessions.lastOfJobs()).get(job.id), now());
  };
  const checked = (job: StoredJob): StoredJob => {
    const { selector, schedule } = job.definition;
    for (const expression of [...selector.include, ...selector.exclude]) parseExpression(expression);
    if (schedule) checkSchedule(schedule);
    return job;
  };
  const setEnabled = async (reference: string, enabled: boolean) => {
    const { id } = await jobBy(reference);
    const enable = (job: StoredJob): StoredJob => {
      // What was due while it was disabled is not made up for.
      return { ...job, enabled, scheduledAt: enabled && !job.enabled ? now().toISOString() : job.scheduledAt };
    };
    return view(await jobs.change(id, enable));
  };
  const restore = async ({ order, point }: PlannedRestore) =>
    session(await engine.startRestore(order, { repositoryId: point.repositoryId, vm: point }));

  return {
    repositoryAdd: async ({ body }) => {
      const added = await repositories.add(body);
      return { ...repositoryView(added), recoveryKey: added.recoveryKey ?? null };
    },
    repositoryKeyList: ({ id }) => keys.list(id),
    repositoryKeyAdd: ({ id, body }) => keys.add(id, body),
    repositoryKeyRemove: ({ id, body }) => keys.remove(id, body.key),
    repositoryKeyRotate: ({ id }) => keys.rotate(id),
    repositoryList: async () => ({ items: await Promise.all((await repositories.list()).map(cared)) }),
    repositoryShow: async ({ id }) => cared(await repositories.show(id)),
    repositoryEdit: async ({ id, body }) => {
      const changed = await edit.apply(id, body);
      return { ...(await cared(changed)), problems: [...changed.problems] };
    },
    repositoryRemove: async ({ id }) => {
      const row = await repositories.row(id);
      const user = (await jobs.all()).find((job) => job.repositoryId === row.id);
      if (user) throw HostErrors.IN_USE({ what: `Repository ${row.name}`, usedBy: `job ${user.name}` });
      await repositories.remove(row.id);
    },

    pointList: async ({ query }) => {
      const repositoryId = query.repository === undefined ? undefined : (await repositories.row(query.repository)).id;
      const platformId = query.platform === undefined ? undefined : (await platforms.row(query.platform)).id;
      if (query.refresh) {
        for (const { row } of await repositories.list()) {
          if (repositoryId === undefined || row.id === repositoryId) await repositories.refreshPoints(row.id);
        }
      }
      const found = await points.list(query.limit, query.pageToken, { repositoryId, platformId, vm: query.vm });
      const known = await names();
      const held = await holds.all();
      const last = found.at(-1);
      return {
        items: found.map((point) => pointView(point, known.get(point.repositoryId) ?? '', held.get(point.id)?.heldAt)),
        nextPageToken: last && found.length === query.limit ? `${last.pointInTime}~${last.id}` : null,
      };
    },
    pointShow: async ({ id }) => {
      const point = await pointBy(id);
      return pointView(point, (await names()).get(point.repositoryId) ?? '', (await holds.of(id))?.heldAt);
    },
    pointVerify: async ({ id }) => {
      const point = await pointBy(id);
      return session(await engine.startVerify({ kind: 'verify', pointId: point.id }, { repositoryId: point.repositoryId, vm: point }));
    },

    jobCreate: async ({ body: { name, repository, enabled, ...definition } }) => {
      const at = now().toISOString();
      const repositoryId = (await repositories.row(repository)).id;
      const job = checked({ id: randomUUID(), name, repositoryId, enabled, definition, createdAt: at, scheduledAt: at });
      await jobs.add(job);
      return view(job);
    },
    jobList: async () => {
      const known = await names();
      const last = await sessions.lastOfJobs();
      return { items: (await jobs.all()).map((job) => jobView(job, known.get(job.repositoryId) ?? '', last.get(job.id), now())) };
    },
    jobShow: async ({ id }) => view(await jobBy(id)),
    jobEdit: async ({ id, body: { name, repository, enabled, ...change } }) => {
      const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined)) as Partial<JobDefinition>;
      const repositoryId = repository === undefined ? undefined : (await repositories.row(repository)).id;
      const edit = (job: StoredJob): StoredJob => {
        const rescheduled = given.schedule !== undefined || (enabled === true && !job.enabled);
        return checked({
          ...job,
          name: name ?? job.name,
          enabled: enabled ?? job.enabled,
          repositoryId: repositoryId ?? job.repositoryId,
          definition: { ...job.definition, ...given },
          scheduledAt: rescheduled ? now().toISOString() : job.scheduledAt,
        });
      };
      return view(await jobs.change((await jobBy(id)).id, edit));
    },
    jobRun: async ({ id, body }) => session(await engine.startBackup(id, body, 'user')),
    jobEnable: ({ id }) => setEnabled(id, true),
    jobDisable: ({ id }) => setEnabled(id, false),
    jobRemove: async ({ id }) => {
      const job = await jobBy(id);
      const running = await sessions.runningOfJob(job.id);
      if (running) throw HostErrors.IN_USE({ what: `Job ${job.name}`, usedBy: `session ${running.id}` });
      await jobs.remove(job.id);
    },

    sessionList: async ({ query }) => {
      const jobId = query.job === undefined ? undefined : (await jobBy(query.job)).id;
      const found = await sessions.list(query.limit, query.pageToken, { jobId, kind: query.kind, state: query.state });
      const last = found.at(-1);
      // One after the other: the tasks of a session may be many thousands.
      const items = [];
      for (const record of found) items.push(await session(record));
      return {
        items,
        nextPageToken: last && found.length === query.limit ? `${last.startedAt}~${last.id}` : null,
      };
    },
    sessionShow: async ({ id }) => {
      const record = await engine.get(id);
      const tasks = await sessions.tasks(id);
      return { ...sessionView(record, tasks), tasks: tasks.map(taskView) };
    },
    sessionStop: async ({ id }) => session(await engine.stopSession(id)),
    sessionRetry: async ({ id }) => session(await engine.retrySession(id)),

    restoreVm: async ({ body }) => restore(await planner.vm(body)),
    restoreDisk: async ({ body }) => restore(await planner.disk(body)),
    restoreFile: async ({ body }) => restore(await planner.file(body)),
  };
}
