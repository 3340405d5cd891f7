import type { HostFleet } from '../../hosts/driver';
import type { EngineRun } from '../engine';
import type { EngineServer } from '../engine-server';
import type { ActionGroup, Disk, Entity, Host, Transfer, Vm } from '../model/entities';
import type { Collection } from '../model/store';
import { chainOf } from '../disks/images';
import { connectHost } from '../inventory/hosts';
import { pretendInventory } from '../scale/pretended-inventory';
import { capacityControls } from './capacity-controls';
import { ControlError, type ControlRoute, named, wantNumber, wantText } from './control-route';
import type { FaultRule } from './fault-plan';

/** What the control endpoint can do to a running lab. Entities are named by id or by name. */
/** @param crashVm ends the VM's process as a crash does, behind the fleet's back. */
export function engineControls(server: EngineServer, fleet: HostFleet, crashVm: (vmId: string) => void): ControlRoute[] {
  const run = (): EngineRun => {
    if (!server.run) {
      throw new ControlError(503, 'the engine is down');
    }
    return server.run;
  };
  return [
    ...lookRoutes(server, run),
    ...faultRoutes(server, run),
    ...hostRoutes(run, fleet),
    ...machineRoutes(run, fleet, crashVm),
    ...capacityControls(run),
  ];
}

type Run = () => EngineRun;

function lookRoutes(server: EngineServer, run: Run): ControlRoute[] {
  return [
    {
      method: 'GET',
      pattern: '/state',
      does: 'is the engine up, clock, sizes of collections, locks and other internals',
      handle: () => {
        const current = server.run;
        if (!current) {
          return { up: false };
        }
        const looks = Object.fromEntries([...current.looks].map(([name, look]) => [name, look()]));
        return { up: true, clockFactor: current.clock.factor, sizes: current.core.db.store.sizes(), ...looks };
      },
    },
    {
      method: 'GET',
      pattern: '/entities/:collection',
      does: 'rows as the engine keeps them: vms, disks, volumes, attachments, snapshots, backups, checkpoints, transfers, jobs, …',
      handle: ([name = '']) => collectionOf(run(), name).list(),
    },
    {
      method: 'POST',
      pattern: '/pretend',
      does: 'adds a large inventory without hosts behind it: {vms, clusters, hosts}',
      handle: (_, body) => {
        const pretence = { vms: wantNumber(body, 'vms'), clusters: wantNumber(body, 'clusters'), hosts: wantNumber(body, 'hosts') };
        pretendInventory(run().core.db, pretence);
      },
    },
  ];
}

function faultRoutes(server: EngineServer, run: Run): ControlRoute[] {
  return [
    { method: 'GET', pattern: '/faults', does: 'the rules', handle: () => server.faults.list() },
    {
      method: 'POST',
      pattern: '/faults',
      does: 'adds a rule: {match: {route | step, contains?, nth?, times?}, effect: {kind: fault|delay|drop|html503|unauthorized, …}}',
      handle: (_, body) => server.faults.add(requireRule(body)),
    },
    {
      method: 'DELETE',
      pattern: '/faults',
      does: 'removes all rules',
      handle: () => {
        server.faults.clear();
      },
    },
    { method: 'DELETE', pattern: '/faults/:id', does: 'removes a rule', handle: ([id = '']) => ({ removed: server.faults.remove(id) }) },
    {
      method: 'POST',
      pattern: '/captures',
      does: 'from now on qemu-img copies each disk of a backup or of an attached snapshot to {folder}/<backup or snapshot>/<disk>.raw before it can be read',
      handle: (_, body) => {
        server.captures.folder = wantText(body, 'folder');
      },
    },
    {
      method: 'DELETE',
      pattern: '/captures',
      does: 'no more copies',
      handle: () => {
        server.captures.folder = undefined;
      },
    },
    {
      method: 'POST',
      pattern: '/engine/restart',
      does: 'restarts the engine: {downMs?, settings?}; answers when it is up again',
      handle: async (_, body) => {
        await server.restart(wantNumber(body, 'downMs', 1_000), body['settings'] ?? {});
      },
    },
    {
      method: 'POST',
      pattern: '/clock',
      does: 'engine time passes {factor} times as fast, for timers set from now on',
      handle: (_, body) => {
        run().clock.setFactor(wantNumber(body, 'factor'));
      },
    },
    {
      method: 'POST',
      pattern: '/sessions/drop',
      does: 'ends all logins: the next request of each client answers 401',
      handle: () => {
        const { sessions } = run().core.db;
        const all = sessions.list();
        for (const session of all) {
          sessions.delete(session.id);
        }
        return { dropped: all.length };
      },
    },
    {
      method: 'POST',
      pattern: '/users/:user/permits',
      does: 'takes permission groups from an account: {revoked: [BACKUP_DISK, …]}; an empty list gives all back',
      handle: ([name = ''], body) => {
        const { users } = run().core.db;
        const user = users.find((candidate) => candidate.userName === name || candidate.id === name);
        if (!user || !Array.isArray(body['revoked'])) {
          throw new ControlError(user ? 400 : 404, user ? '"revoked" must be a list' : `no user ${name}`);
        }
        users.update(user.id, { revokedPermits: body['revoked'] as ActionGroup[] });
      },
    },
  ];
}

function hostRoutes(run: Run, fleet: HostFleet): ControlRoute[] {
  const host = (name: string): Host => named(run().core.db.hosts, name, 'host');
  return [
    {
      method: 'POST',
      pattern: '/hosts/:host/kill',
      does: 'kills everything of the host: imageio, VMs, exports',
      handle: async ([name = '']) => {
        const { id } = host(name);
        run().core.db.hosts.update(id, { status: 'non_responsive' });
        await fleet.killHost(id);
      },
    },
    {
      method: 'POST',
      pattern: '/hosts/:host/start',
      does: 'brings a killed host or its imageio back',
      handle: async ([name = '']) => {
        await connectHost(run().core, host(name).id);
      },
    },
    {
      method: 'POST',
      pattern: '/hosts/:host/stall',
      does: 'stops or continues every process of the host: {stalled}',
      handle: async ([name = ''], body) => {
        await fleet.stallHost(host(name).id, body['stalled'] === true);
      },
    },
    {
      method: 'POST',
      pattern: '/hosts/:host/imageio/kill',
      does: 'kills the imageio of the host; tickets are lost',
      handle: async ([name = '']) => {
        await fleet.killImageio(host(name).id);
      },
    },
    {
      method: 'POST',
      pattern: '/hosts/:host/imageio/stall',
      does: 'stops or continues the imageio process: {stalled}',
      handle: async ([name = ''], body) => {
        await fleet.stallImageio(host(name).id, body['stalled'] === true);
      },
    },
    {
      method: 'POST',
      pattern: '/proxy/kill',
      does: 'kills the proxy beside the engine',
      handle: async () => {
        await fleet.killImageio('proxy');
      },
    },
    {
      method: 'POST',
      pattern: '/proxy/start',
      does: 'brings the proxy back',
      handle: async () => {
        await fleet.startProxy();
      },
    },
    {
      method: 'POST',
      pattern: '/transfers/:transfer/expire',
      does: 'takes the ticket of an image transfer away from its host and the proxy',
      handle: async ([id = '']) => {
        const transfer: Transfer = named(run().core.db.transfers, id, 'image transfer');
        if (transfer.ticketId !== undefined) {
          await fleet.removeTicket('proxy', transfer.ticketId);
          if (transfer.hostId !== undefined) {
            await fleet.removeTicket(transfer.hostId, transfer.ticketId);
          }
        }
      },
    },
  ];
}

function machineRoutes(run: Run, fleet: HostFleet, crashVm: (vmId: string) => void): ControlRoute[] {
  const vm = (name: string): Vm => named(run().core.db.vms, name, 'VM');
  const disk = (name: string): Disk => named(run().core.db.disks, name, 'disk');
  const chain = (name: string): ReturnType<typeof chainOf> => chainOf(run().core.db, disk(name));
  return [
    {
      method: 'POST',
      pattern: '/vms/:vm/kill',
      does: 'the qemu process of the VM dies; bitmaps become inconsistent',
      handle: ([name = '']) => {
        crashVm(vm(name).id);
      },
    },
    {
      method: 'POST',
      pattern: '/vms/:vm/stall',
      does: 'stops or continues the qemu process of the VM: {stalled}',
      handle: async ([name = ''], body) => {
        await fleet.stallVm(vm(name).id, body['stalled'] === true);
      },
    },
    {
      method: 'GET',
      pattern: '/vms/:vm/console',
      does: 'what the guest printed',
      handle: async ([name = '']) => ({ text: await fleet.consoleText(vm(name).id) }),
    },
    {
      method: 'POST',
      pattern: '/vms/:vm/guest',
      does: 'what boots in the VM from its next start on: {guest: none|linux}',
      handle: ([name = ''], body) => {
        run().core.db.vms.update(vm(name).id, { guest: wantText(body, 'guest') === 'linux' ? 'linux' : 'none' });
      },
    },
    {
      method: 'POST',
      pattern: '/vms/:vm/write',
      does: 'dirties a disk of a running VM: {disk, offsetBytes, lengthBytes, pattern: byte|random|zero, seed?}',
      handle: async ([name = ''], body) => {
        const pattern = body['pattern'];
        if (typeof pattern !== 'number' && pattern !== 'random' && pattern !== 'zero') {
          throw new ControlError(400, '"pattern" must be a byte, "random" or "zero"');
        }
        const seed = body['seed'];
        await fleet.writeBlocks(vm(name).id, disk(wantText(body, 'disk')).id, {
          offsetBytes: wantNumber(body, 'offsetBytes'),
          lengthBytes: wantNumber(body, 'lengthBytes'),
          pattern,
          ...(typeof seed === 'number' ? { seed } : {}),
        });
      },
    },
    {
      method: 'GET',
      pattern: '/disks/:disk/bitmaps',
      does: 'the bitmaps of a disk as its qemu or file has them',
      handle: ([name = '']) => fleet.listBitmaps(chain(name)),
    },
    {
      method: 'POST',
      pattern: '/disks/:disk/bitmaps/damage',
      does: 'loses or breaks a bitmap behind the engine: {checkpoint, how: remove|inconsistent}',
      handle: async ([name = ''], body) => {
        await fleet.damageBitmap(chain(name), wantText(body, 'checkpoint'), wantText(body, 'how') === 'remove' ? 'remove' : 'inconsistent');
      },
    },
    {
      method: 'POST',
      pattern: '/disks/:disk/dump',
      does: 'copies the present content of a disk of a stopped VM into a raw file: {file}',
      handle: async ([name = ''], body) => {
        await fleet.dumpDisk(chain(name), wantText(body, 'file'));
      },
    },
  ];
}

function collectionOf(run: EngineRun, name: string): Collection<Entity> {
  if (!(name in run.core.db.store.sizes()) || name === 'users' || name === 'sessions') {
    throw new ControlError(404, `no collection ${name}`);
  }
  return run.core.db.store.collection<Entity>(name);
}

const EFFECTS = new Set(['fault', 'delay', 'drop', 'html503', 'unauthorized']);

function requireRule(body: Record<string, unknown>): Omit<FaultRule, 'id'> {
  const { match, effect } = body as Partial<FaultRule>;
  if (!match || (match.route === undefined) === (match.step === undefined)) {
    throw new ControlError(400, '"match" needs either "route" or "step"');
  }
  if (!effect || !EFFECTS.has(effect.kind)) {
    throw new ControlError(400, '"effect.kind" must be fault, delay, drop, html503 or unauthorized');
  }
  return { match, effect };
}
