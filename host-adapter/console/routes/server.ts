/** Logins, settings, and what happened. */
import * as S from '../schemas';
import type { Route } from './route';

export const serverRoutes = {
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
  janitorReport: { method: 'GET', path: '/janitor', summary: 'What crashes left behind, and what became of it.', reply: S.JanitorReport },
  janitorSweep: { method: 'POST', path: '/janitor/sweep', summary: 'Sweep now.', reply: S.JanitorReport },
  eventList: { method: 'GET', path: '/events', summary: 'Events, newest first.', query: S.EventQuery, reply: S.Lists.events },
  auditList: { method: 'GET', path: '/audit', summary: 'Who changed what, newest first.', query: S.Paging, reply: S.Lists.audit },
} as const satisfies Record<string, Route>;
