/** Plug-ins. */
import * as S from '../schemas';
import type { Route } from './route';

export const processRoutes = {
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
} as const satisfies Record<string, Route>;
