import { parseToken } from '../../common/tls/token';
import type { SessionStore } from '../catalogue/session-store';
import type { Enrolment } from '../identity/enrolment';
import type { SessionEngine } from '../jobs/session-engine';
import type { PluginRegistry } from '../registry/plugin-registry';
import type { Fleet } from '../workers/fleet';
import type { PlannedWorker, WorkerPlanner } from '../workers/worker-planner';
import type { Handlers } from './handler-types';
import { sessionView } from './views';
import { imageView, orphanView, policyView, settingsView, workerView } from './worker-views';

type Names =
  | `worker${'List' | 'Show' | 'Enrol' | 'Preview' | 'Deploy' | 'Edit' | 'Redeploy' | 'Remove' | 'Test' | 'Start' | 'Stop' | 'Drain' | 'Resume'}`
  | `orphanWorker${'List' | 'Remove'}`
  | 'workerImageList'
  | `fleetPolicy${'Show' | 'Edit'}`;

/** Workers and the rules of fleets. */
export function workerHandlers(parts: {
  readonly fleet: Fleet;
  readonly planner: WorkerPlanner;
  readonly engine: SessionEngine;
  readonly sessions: SessionStore;
  readonly plugins: PluginRegistry;
  readonly enrolment: Enrolment;
  readonly now: () => Date;
}): Pick<Handlers, Names> {
  const { fleet, planner, engine, sessions, plugins, enrolment, now } = parts;
  const start = async ({ order, vm }: PlannedWorker) => {
    const record = await engine.startWorkerOperation(order, vm);
    return sessionView(record, await sessions.tasks(record.id));
  };
  const act = async (name: Parameters<WorkerPlanner['act']>[0], id: string, force: boolean, user: string) =>
    start(await planner.act(name, id, force, user));
  return {
    workerList: async () => ({ items: (await fleet.list()).map((known) => workerView(known, now())) }),
    workerShow: async ({ id }) => workerView(await fleet.find(id), now()),
    workerEnrol: async ({ body }) => {
      const known = (await plugins.list()).find((plugin) => plugin.connected)?.registration;
      const { token, expiresAt } = await enrolment.createToken('worker', body.lifetimeMinutes * 60_000);
      const enrolmentEndpoint = known?.workerEnrolmentEndpoint ?? '';
      return {
        role: 'worker',
        token,
        expiresAt: expiresAt.toISOString(),
        enrolmentEndpoint,
        caFingerprint: parseToken(token).caFingerprint,
      };
    },
    workerPreview: async ({ body }) => {
      const preview = await planner.preview(body);
      return { ...preview, settings: settingsView(preview.settings) };
    },
    workerDeploy: async ({ body, login }) => start(await planner.deploy(body, login.name)),
    workerEdit: async ({ id, body: { force, ...change }, login }) => start(await planner.edit(id, change, force, login.name)),
    workerRedeploy: ({ id, body, login }) => act('redeploy', id, body.force, login.name),
    workerRemove: ({ id, query, login }) => act('remove', id, query.force, login.name),
    workerTest: ({ id, login }) => act('test', id, false, login.name),
    workerStart: ({ id, login }) => act('start', id, false, login.name),
    workerStop: ({ id, body, login }) => act('stop', id, body.force, login.name),
    workerDrain: async ({ id }) => workerView(await fleet.setDrained(id, true), now()),
    workerResume: async ({ id }) => workerView(await fleet.setDrained(id, false), now()),

    orphanWorkerList: async () => ({ items: (await fleet.orphans()).map(orphanView) }),
    orphanWorkerRemove: async ({ id, login }) => start(await planner.removeOrphan(id, login.name)),
    workerImageList: async () => ({ items: (await fleet.images()).map(imageView) }),
    fleetPolicyShow: async ({ id }) => {
      const { row, policy } = await fleet.policy(id);
      return policyView(row.id, policy);
    },
    fleetPolicyEdit: async ({ id, body }) => {
      const { row, policy } = await fleet.changePolicy(id, await planner.policy(id, body));
      return policyView(row.id, policy);
    },
  };
}
