/** `/vms/:vmId/snapshots` and what goes back to one. */
import { diskView } from '../disks/disk-view';
import { flagOf, idOf, objectOf, objectsOf, textOf, type ApiObject } from '../http/api-object';
import { incomplete } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { accepted, done, inProgress, list, ok } from '../http/reply';
import { found, param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { Snapshot, Vm } from '../model/entities';
import { nicView } from '../vms/nics-resource';
import type { PreviewService } from './preview-service';
import type { SnapshotRemoval } from './snapshot-removal';
import type { SnapshotRequest } from './snapshot-request';
import type { SnapshotService } from './snapshot-service';

export interface SnapshotServices {
  readonly snapshots: SnapshotService;
  readonly removal: SnapshotRemoval;
  readonly previews: PreviewService;
}

export function registerSnapshots(routes: Routes, core: Core, { snapshots, removal, previews }: SnapshotServices): void {
  const { db } = core;
  const vmOf = (context: RequestContext): Vm => found(db.vms.get(param(context, 'vmId')));
  const snapshotOf = (context: RequestContext): Snapshot => {
    const snapshot = found(db.snapshots.get(param(context, 'snapshotId')));
    return found(snapshot.vmId === vmOf(context).id ? snapshot : undefined);
  };
  routes.add('GET', '/vms/:vmId/snapshots', (context) => {
    const vm = vmOf(context);
    const all = db.snapshots.list((snapshot) => snapshot.vmId === vm.id);
    return list(
      'snapshot',
      all.map((snapshot) => snapshotView(snapshot, context.allContent)),
    );
  });
  routes.add('GET', '/vms/:vmId/snapshots/:snapshotId', (context) => ok('snapshot', snapshotView(snapshotOf(context), context.allContent)));
  routes.add(
    'POST',
    '/vms/:vmId/snapshots',
    async (context) => {
      context.permits('MANIPULATE_VM_SNAPSHOTS');
      const vm = vmOf(context);
      return accepted('snapshot', snapshotView(await snapshots.create(vm, requestOf(context)), false));
    },
    { body: 'snapshot' },
  );
  routes.add('DELETE', '/vms/:vmId/snapshots/:snapshotId', async (context) => {
    context.permits('MANIPULATE_VM_SNAPSHOTS');
    const jobId = await removal.remove(snapshotOf(context), context);
    return context.query.flag('async') === true ? inProgress(jobId) : done(jobId);
  });
  routes.add('DELETE', '/storagedomains/:domainId/disksnapshots/:volumeId', (context) => {
    context.permits('MANIPULATE_VM_SNAPSHOTS');
    const volume = found(db.volumes.get(param(context, 'volumeId')));
    return done(removal.removeVolume(found(volume.domainId === param(context, 'domainId') ? volume : undefined), context));
  });
  registerParts(routes, core, snapshots, snapshotOf);
  registerReturns(routes, core, previews, vmOf, snapshotOf);
}

function registerParts(routes: Routes, core: Core, snapshots: SnapshotService, snapshotOf: (context: RequestContext) => Snapshot): void {
  const { db } = core;
  const diskViews = (snapshot: Snapshot): ApiObject[] =>
    snapshots.volumesOf(snapshot.id).flatMap((volume) => {
      const disk = db.disks.get(volume.diskId);
      const href = hrefOf('vms', snapshot.vmId, 'snapshots', snapshot.id, 'disks', volume.diskId);
      return disk === undefined ? [] : [diskView(core, disk, { volume, href, snapshotId: snapshot.id })];
    });
  routes.add('GET', '/vms/:vmId/snapshots/:snapshotId/disks', (context) => list('disk', diskViews(snapshotOf(context))));
  routes.add('GET', '/vms/:vmId/snapshots/:snapshotId/disks/:diskId', (context) =>
    ok('disk', found(diskViews(snapshotOf(context)).find((view) => view['id'] === param(context, 'diskId')))),
  );
  routes.add('GET', '/vms/:vmId/snapshots/:snapshotId/nics', (context) => {
    const snapshot = snapshotOf(context);
    return list('nic', db.nics.list((nic) => nic.vmId === snapshot.vmId).map(nicView));
  });
  routes.add('GET', '/vms/:vmId/snapshots/:snapshotId/cdroms', (context) => {
    snapshotOf(context);
    return list('cdrom', []);
  });
}

function registerReturns(
  routes: Routes,
  core: Core,
  previews: PreviewService,
  vmOf: (context: RequestContext) => Vm,
  snapshotOf: (context: RequestContext) => Snapshot,
): void {
  const action = (pattern: string, work: (context: RequestContext) => Promise<void>): void => {
    routes.add(
      'POST',
      pattern,
      async (context) => {
        context.permits('MANIPULATE_VM_SNAPSHOTS');
        await work(context);
        return done();
      },
      { body: 'action', oldAction: true },
    );
  };
  action('/vms/:vmId/snapshots/:snapshotId/restore', (context) => previews.restore(vmOf(context), snapshotOf(context)));
  action('/vms/:vmId/previewsnapshot', async (context) => {
    const id = textOf(objectOf(context.body, 'snapshot'), 'id');
    if (id === undefined) throw incomplete('Action', ['snapshot.id'], 'previewSnapshot');
    await previews.preview(vmOf(context), found(core.db.snapshots.get(id)), context);
  });
  action('/vms/:vmId/commitsnapshot', (context) => previews.commit(vmOf(context)));
  action('/vms/:vmId/undosnapshot', (context) => previews.undo(vmOf(context)));
}

/** `persist_memorystate` defaults to true: a client that forgets it gets a memory snapshot. */
function requestOf(context: RequestContext): SnapshotRequest {
  const description = textOf(context.body, 'description');
  if (description === undefined) throw incomplete('Snapshot', ['description'], 'add');
  const attachments = objectsOf(context.body, 'disk_attachments');
  const leafIds = (attachments ?? []).flatMap((attachment): (readonly [string, string])[] => {
    const disk = objectOf(attachment, 'disk');
    const id = textOf(disk, 'id');
    const imageId = textOf(disk, 'image_id');
    return id !== undefined && imageId !== undefined ? [[id, imageId]] : [];
  });
  return {
    description,
    persistMemory: flagOf(context.body, 'persist_memorystate') ?? true,
    ...(attachments !== undefined && {
      diskIds: attachments.flatMap((attachment) => idOf(attachment, 'disk') ?? textOf(attachment, 'id') ?? []),
    }),
    leafIds: new Map(leafIds),
    correlationId: context.correlationId,
    userId: context.userId,
  };
}

function snapshotView(snapshot: Snapshot, allContent: boolean): ApiObject {
  return {
    href: hrefOf('vms', snapshot.vmId, 'snapshots', snapshot.id),
    id: snapshot.id,
    description: snapshot.description,
    date: snapshot.date,
    snapshot_status: snapshot.status,
    snapshot_type: snapshot.type,
    persist_memorystate: snapshot.persistMemory,
    vm: refOf('vms', snapshot.vmId),
    initialization: allContent && snapshot.ovf !== undefined ? { configuration: { type: 'ovf', data: snapshot.ovf } } : undefined,
  };
}
