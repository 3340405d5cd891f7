/** Movers, and those of them that are gateways. */
import * as S from '../schemas';
import type { Route } from './route';

export const moverRoutes = {
  moverList: { method: 'GET', path: '/movers', summary: 'Movers, or gateways only.', query: S.MoverQuery, reply: S.Lists.movers },
  moverEnrol: {
    method: 'POST',
    path: '/movers/enrolment-tokens',
    summary: 'A one-time token for a mover or a gateway.',
    body: S.MoverTokenRequest,
    reply: S.MoverToken,
    status: 201,
  },
  moverShow: { method: 'GET', path: '/movers/:id', summary: 'One mover.', reply: S.Mover },
  moverEdit: { method: 'PATCH', path: '/movers/:id', summary: 'Make a mover a gateway, or not.', body: S.MoverChange, reply: S.Mover },
  moverDrain: { method: 'POST', path: '/movers/:id/drain', summary: 'No new sessions for a mover; running ones end.', reply: S.Mover },
  moverResume: { method: 'POST', path: '/movers/:id/resume', summary: 'Sessions again for a drained mover.', reply: S.Mover },
  moverRemove: {
    method: 'DELETE',
    path: '/movers/:id',
    summary: 'Forget a mover that nothing needs: it gets no certificate any more.',
  },
  repositoryPath: {
    method: 'GET',
    path: '/repositories/:id/path',
    summary: 'Which mover a session would go through now, and why.',
    query: S.RepositoryPathQuery,
    reply: S.RepositoryPath,
  },
} as const satisfies Record<string, Route>;
