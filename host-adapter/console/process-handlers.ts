import { productVersion } from '../../common/lifecycle/process-info';
import { timestampFromWire } from '../../common/rpc/bytes';
import { parseToken } from '../../common/tls/token';
import type { EventStore } from '../catalogue/event-store';
import type { SettingStore } from '../catalogue/setting-store';
import type { CertificateAuthority } from '../identity/certificate-authority';
import type { EnrolledRole, Enrolment } from '../identity/enrolment';
import type { Users } from '../identity/users';
import { checkSchedule } from '../jobs/schedule';
import type { PluginConnections } from '../registry/plugin-connections';
import type { PluginRegistry } from '../registry/plugin-registry';
import type { Doctor } from './doctor';
import type { Handlers } from './handler-types';
import { leftoverView, pluginView } from './views';

export interface Endpoints {
  readonly console: string;
  readonly control: string;
  readonly enrolment: string;
}

type Names =
  | 'login'
  | 'logout'
  | 'changePassword'
  | 'health'
  | 'doctor'
  | 'configShow'
  | 'configEdit'
  | `plugin${'List' | 'Enrol' | 'Show' | 'Enable' | 'Disable'}`
  | 'janitorReport'
  | 'janitorSweep'
  | 'eventList'
  | 'auditList';

/** Logins, processes, settings, and what happened. */
export function processHandlers(parts: {
  readonly users: Users;
  readonly authority: CertificateAuthority;
  readonly enrolment: Enrolment;
  readonly plugins: PluginRegistry;
  readonly connections: PluginConnections;
  readonly settings: SettingStore;
  readonly events: EventStore;
  readonly doctor: Doctor;
  endpoints(): Endpoints;
}): Pick<Handlers, Names> {
  const { users, authority, enrolment, plugins, connections, settings, events, doctor } = parts;
  const config = () => ({
    version: productVersion(),
    settings: { ...settings.current, retryDelaysMs: [...settings.current.retryDelaysMs] },
    caFingerprint: authority.fingerprint,
    endpoints: parts.endpoints(),
  });
  const tokenFor = async (role: EnrolledRole, body: { lifetimeMinutes: number; again?: string | undefined }) => {
    const { token, expiresAt } = await enrolment.createToken(role, body.lifetimeMinutes * 60_000, body.again);
    const enrolmentEndpoint = parts.endpoints().enrolment;
    return { role, token, expiresAt: expiresAt.toISOString(), enrolmentEndpoint, caFingerprint: parseToken(token).caFingerprint };
  };
  const setEnabled = async (reference: string, enabled: boolean) => {
    const plugin = await plugins.find(reference);
    await plugins.setEnabled(plugin.identity.id, enabled);
    return pluginView(await plugins.find(plugin.identity.id));
  };
  const janitor = async (method: 'GetJanitorReport' | 'Sweep') => {
    const leftovers = [];
    let lastSweepAt: Date | undefined;
    for (const client of await connections.usable()) {
      if (method === 'Sweep') await client.janitor.call('Sweep', {}, { deadlineMs: 120_000 });
      const report = await client.janitor.call('GetJanitorReport', {}, { deadlineMs: 10_000 });
      leftovers.push(...report.leftovers.map((leftover) => leftoverView(client.id, leftover)));
      const swept = timestampFromWire(report.lastSweepAt);
      if (swept && (!lastSweepAt || swept > lastSweepAt)) lastSweepAt = swept;
    }
    return { lastSweepAt: lastSweepAt?.toISOString() ?? null, leftovers };
  };
  return {
    login: async ({ body, remoteAddress }) => {
      const { token, expiresAt } = await users.login(body.user, body.password, remoteAddress);
      return { token, user: body.user, expiresAt: expiresAt.toISOString() };
    },
    logout: ({ login }) => users.logout(login),
    changePassword: ({ login, body }) => users.changePassword(login, body.currentPassword, body.newPassword),
    health: async () => ({ status: 'ok', version: productVersion() }),
    doctor: () => doctor.examine(),
    configShow: async () => config(),
    configEdit: async ({ body }) => {
      for (const cron of [body.configurationCopySchedule, body.collectSchedule]) if (cron !== undefined) checkSchedule({ cron });
      await settings.change(Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined)));
      return config();
    },

    pluginList: async () => ({ items: (await plugins.list()).map(pluginView) }),
    pluginEnrol: ({ body }) => tokenFor('plugin', body),
    pluginShow: async ({ id }) => pluginView(await plugins.find(id)),
    pluginEnable: ({ id }) => setEnabled(id, true),
    pluginDisable: ({ id }) => setEnabled(id, false),

    janitorReport: () => janitor('GetJanitorReport'),
    janitorSweep: () => janitor('Sweep'),
    eventList: async ({ query }) => {
      const rows = await events.events(query.limit, before(query.pageToken), query.severity);
      const items = rows.map(({ referencesJson, severity, ...row }) => ({
        ...row,
        severity: severity as 'info' | 'warning' | 'error',
        references: JSON.parse(referencesJson) as Record<string, string>,
      }));
      return { items, nextPageToken: items.length < query.limit ? null : String(items.at(-1)?.id) };
    },
    auditList: async ({ query }) => {
      const items = await events.audit(query.limit, before(query.pageToken));
      return { items, nextPageToken: items.length < query.limit ? null : String(items.at(-1)?.id) };
    },
  };
}

function before(token: string | undefined): number | undefined {
  return token === undefined || !/^\d{1,15}$/.test(token) ? undefined : Number(token);
}
