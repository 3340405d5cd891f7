/** `/disks`, `/vms/:vmId/diskattachments` and the volumes of disks. */
import { objectOf, textOf } from '../http/api-object';
import { hrefOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import { accepted, created, done, inProgress, list, ok, type Reply } from '../http/reply';
import { found, param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import type { SearchFields } from '../http/search';
import type { Core } from '../model/core';
import { attachmentId, type Disk, type DiskAttachment, type Vm, type Volume } from '../model/entities';
import type { AttachmentService } from './attachment-service';
import type { DiskCopy } from './disk-copy';
import type { DiskService } from './disk-service';
import { attachmentView, diskSnapshotView, diskView } from './disk-view';
import { vmsOfDisk } from './images';

export function registerDisks(routes: Routes, core: Core, disks: DiskService, copies: DiskCopy): void {
  const { db } = core;
  const one = (context: RequestContext): Disk => found(db.disks.get(param(context, 'diskId')));
  const searchable = (all: (context: RequestContext) => readonly Disk[], path: string): void => {
    serveReadable(routes, {
      path,
      type: 'disk',
      all,
      one: (id, context) => all(context).find((disk) => disk.id === id),
      view: (disk, context) => diskView(core, disk, { allContent: context.allContent }),
      search: searchFields(core),
    });
  };
  searchable(() => db.disks.list(), '/disks');
  searchable((context) => {
    const domain = found(db.storageDomains.get(param(context, 'domainId')));
    return db.disks.list((disk) => disk.storageDomainId === domain.id);
  }, '/storagedomains/:domainId/disks');
  routes.add(
    'POST',
    '/disks',
    async (context) => {
      context.permits('CREATE_DISK');
      await disks.requireSpaceFor(context.body);
      return accepted('disk', diskView(core, disks.create(context.body, context)));
    },
    { body: 'disk' },
  );
  routes.add(
    'PUT',
    '/disks/:diskId',
    async (context) => {
      context.permits('EDIT_DISK_PROPERTIES');
      return ok('disk', diskView(core, await disks.update(one(context).id, context.body)));
    },
    { body: 'disk' },
  );
  routes.add('DELETE', '/disks/:diskId', (context) => {
    context.permits('DELETE_DISK');
    const jobId = disks.remove(one(context).id, context);
    return context.query.flag('async') === true ? inProgress(jobId) : done(jobId);
  });
  routes.add(
    'POST',
    '/disks/:diskId/copy',
    async (context) => {
      context.permits('CREATE_DISK');
      return done(await copies.start(one(context), context.body, context));
    },
    { body: 'action', oldAction: true },
  );
  registerVolumes(routes, core, one);
}

function registerVolumes(routes: Routes, core: Core, one: (context: RequestContext) => Disk): void {
  const { db } = core;
  const isShown = (volume: Volume, context: RequestContext): boolean => {
    const type = db.snapshots.get(volume.snapshotId ?? '')?.type;
    return context.query.flag('include_active') === true || (type !== undefined && type !== 'active');
  };
  const view = (volume: Volume, collection: string): ReturnType<typeof diskSnapshotView> =>
    diskSnapshotView(db.disks.require(volume.diskId), volume, collection);
  routes.add('GET', '/disks/:diskId/disksnapshots', (context) => {
    const disk = one(context);
    const volumes = db.volumes.list((volume) => volume.diskId === disk.id && isShown(volume, context));
    return list(
      'disk_snapshot',
      volumes.map((volume) => view(volume, hrefOf('disks', disk.id, 'disksnapshots'))),
    );
  });
  routes.add('GET', '/disks/:diskId/disksnapshots/:id', (context) => {
    const disk = one(context);
    const volume = found(db.volumes.get(param(context, 'id')));
    return ok('disk_snapshot', view(volume, hrefOf('disks', disk.id, 'disksnapshots')));
  });
  routes.add('GET', '/storagedomains/:domainId/disksnapshots', (context) => {
    const domain = found(db.storageDomains.get(param(context, 'domainId')));
    const volumes = db.volumes.list((volume) => volume.domainId === domain.id && isShown(volume, context));
    return list(
      'disk_snapshot',
      volumes.map((volume) => view(volume, hrefOf('storagedomains', domain.id, 'disksnapshots'))),
    );
  });
}

export function registerAttachments(routes: Routes, core: Core, attachments: AttachmentService, disks: DiskService): void {
  const { db } = core;
  const vmOf = (context: RequestContext): Vm => found(db.vms.get(param(context, 'vmId')));
  const attachmentOf = (context: RequestContext): DiskAttachment =>
    found(db.attachments.get(attachmentId(vmOf(context).id, param(context, 'diskId'))));
  const reply = (attachment: DiskAttachment): Reply => ok('disk_attachment', attachmentView(core, attachment));
  routes.add('GET', '/vms/:vmId/diskattachments', (context) => {
    const vm = vmOf(context);
    const own = db.attachments.list((attachment) => attachment.vmId === vm.id);
    return list(
      'disk_attachment',
      own.map((attachment) => attachmentView(core, attachment)),
    );
  });
  routes.add('GET', '/vms/:vmId/diskattachments/:diskId', (context) => reply(attachmentOf(context)));
  routes.add(
    'POST',
    '/vms/:vmId/diskattachments',
    async (context) => {
      context.permits('CONFIGURE_VM_STORAGE');
      const attachment = await attachments.attach(vmOf(context), context.body, context);
      const isCreated = textOf(objectOf(context.body, 'disk'), 'format') !== undefined;
      const view = attachmentView(core, attachment);
      return isCreated ? accepted('disk_attachment', view) : created('disk_attachment', view);
    },
    { body: 'disk_attachment' },
  );
  routes.add(
    'PUT',
    '/vms/:vmId/diskattachments/:diskId',
    async (context) => {
      context.permits('CONFIGURE_VM_STORAGE');
      return reply(await attachments.update(vmOf(context), attachmentOf(context), context.body, context));
    },
    { body: 'disk_attachment' },
  );
  routes.add('DELETE', '/vms/:vmId/diskattachments/:diskId', async (context) => {
    context.permits('CONFIGURE_VM_STORAGE');
    const attachment = attachmentOf(context);
    const removesDisk = context.query.flag('detach_only') === false;
    if (!removesDisk) {
      await attachments.detach(vmOf(context), attachment, context);
      return done();
    }
    context.permits('DELETE_DISK');
    return done(disks.remove(attachment.diskId, context));
  });
}

const searchFields = (core: Core): SearchFields<Disk> => ({
  alias: (disk) => disk.name,
  name: (disk) => disk.name,
  id: (disk) => disk.id,
  description: (disk) => disk.description,
  status: (disk) => disk.status,
  disk_type: (disk) => disk.storageType,
  disk_content_type: (disk) => disk.contentType,
  provisioned_size: (disk) => disk.provisionedSizeBytes,
  number_of_vms: (disk) => vmsOfDisk(core.db, disk.id).length,
  vm_names: (disk) => vmsOfDisk(core.db, disk.id).map((vm) => vm.name),
});
