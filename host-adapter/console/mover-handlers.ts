import { parseToken } from '../../common/tls/token';
import type { Candidates } from '../data-paths/candidates';
import { serves } from '../data-paths/candidates';
import type { MoverLoads } from '../data-paths/mover-loads';
import { resolvePath } from '../data-paths/resolve';
import { HostErrors } from '../errors/host-errors';
import type { Enrolment } from '../identity/enrolment';
import type { VirtualMachines } from '../inventory/virtual-machines';
import type { MoverRegistry, RegisteredMover } from '../registry/mover-registry';
import type { Repositories } from '../repositories/repositories';
import type { Handlers } from './handler-types';
import type { Endpoints } from './process-handlers';
import { moverView } from './views';

type Names = `mover${'List' | 'Enrol' | 'Show' | 'Edit' | 'Drain' | 'Resume' | 'Remove'}` | 'repositoryPath';

/** Movers, gateways, and the way of a session. */
export function moverHandlers(parts: {
  readonly movers: MoverRegistry;
  readonly loads: MoverLoads;
  readonly enrolment: Enrolment;
  readonly repositories: Repositories;
  readonly candidates: Candidates;
  readonly vms: VirtualMachines;
  endpoints(): Endpoints;
  /** Throws IN_USE when a repository needs the mover. */
  mustNotNeed(id: string): Promise<void>;
}): Pick<Handlers, Names> {
  const { movers, loads, enrolment, repositories, candidates, vms } = parts;
  const view = async (mover: RegisteredMover) => {
    const rows = await repositories.rows();
    const names = rows.filter((row) => serves(mover, row)).map((row) => row.name);
    return moverView(mover, loads.of(mover.identity.id), names);
  };
  return {
    moverList: async ({ query }) => {
      const all = await movers.list();
      return { items: await Promise.all(all.filter((one) => query.gateway === undefined || one.gateway === query.gateway).map(view)) };
    },
    moverEnrol: async ({ body }) => {
      const { token, subjectId, expiresAt } = await enrolment.createToken('mover', body.lifetimeMinutes * 60_000, body.again);
      if (body.gateway) await movers.setGateway(subjectId, true);
      const { enrolment: enrolmentEndpoint, control: controlEndpoint } = parts.endpoints();
      const { caFingerprint } = parseToken(token);
      return {
        role: 'mover',
        token,
        expiresAt: expiresAt.toISOString(),
        enrolmentEndpoint,
        caFingerprint,
        moverId: subjectId,
        controlEndpoint,
      };
    },
    moverShow: async ({ id }) => view(await movers.find(id)),
    moverEdit: async ({ id, body }) => {
      const { identity } = await movers.find(id);
      await movers.setGateway(identity.id, body.gateway);
      return view(await movers.find(identity.id));
    },
    moverDrain: async ({ id }) => view(await movers.setDraining(id, true)),
    moverResume: async ({ id }) => view(await movers.setDraining(id, false)),
    moverRemove: async ({ id }) => {
      const { identity } = await movers.find(id);
      await parts.mustNotNeed(identity.id);
      const open = loads.of(identity.id);
      if (open > 0) throw HostErrors.IN_USE({ what: `Mover ${identity.hostName}`, usedBy: `${open} running sessions` });
      await enrolment.revoke(identity.id);
    },
    repositoryPath: async ({ id, query }) => {
      const row = await repositories.row(id);
      const vm = query.vm === undefined ? undefined : await vms.find(query.vm);
      const wish = { platformId: vm?.platformId ?? '', vmId: vm?.vmId ?? '', clusterId: vm?.clusterId ?? '' };
      const found = resolvePath(await candidates.of(row, { ...wish, failed: new Set(), unreached: [] }));
      if (found.kind === 'missing') {
        const { message } = HostErrors.GATEWAY_MISSING({ repository: row.name });
        return { moverId: null, moverName: null, reason: 'gateway-missing', message, passed: [] };
      }
      const passed = found.passed.map(({ moverId, name, why }) => ({ moverId, moverName: name, why }));
      const { reason, message } = found;
      const mover = found.kind === 'chosen' ? found.mover : undefined;
      return { moverId: mover?.moverId ?? null, moverName: mover?.name ?? null, reason, message, passed };
    },
  };
}
