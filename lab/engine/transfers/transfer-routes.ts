/** `/imagetransfers`. Actions answer 200 also for transfers that have vanished. */
import { flagOf, idOf, numberOf, textOf, type ApiObject } from '../http/api-object';
import { incomplete } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { serveReadable } from '../http/readable-resource';
import { created, done } from '../http/reply';
import { param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { Transfer } from '../model/entities';
import { isFinalizing, isFinished } from './phases';
import type { TransferRequest } from './transfer-checks';
import type { TransferService } from './transfer-service';

export function registerTransfers(routes: Routes, core: Core, transfers: TransferService): void {
  const { db } = core;
  serveReadable(routes, {
    path: '/imagetransfers',
    type: 'image_transfer',
    all: () => db.transfers.list(),
    one: (id) => db.transfers.get(id),
    view: transferView,
  });
  routes.add(
    'POST',
    '/imagetransfers',
    async (context) => {
      context.permits('EDIT_DISK_PROPERTIES');
      return created('image_transfer', transferView(await transfers.create(requestOf(core, context))));
    },
    { body: 'image_transfer' },
  );
  const actions: Readonly<Record<string, (id: string) => void>> = {
    finalize: (id) => {
      transfers.finalize(id);
    },
    cancel: (id) => {
      transfers.cancel(id);
    },
    pause: (id) => {
      transfers.pause(id);
    },
    resume: (id) => {
      transfers.resume(id);
    },
    extend: (id) => {
      transfers.extend(id);
    },
  };
  for (const [name, act] of Object.entries(actions)) {
    routes.add(
      'POST',
      `/imagetransfers/:id/${name}`,
      (context) => {
        context.permits('EDIT_DISK_PROPERTIES');
        act(param(context, 'id'));
        return done();
      },
      { body: 'action' },
    );
  }
}

function requestOf(core: Core, context: RequestContext): TransferRequest {
  const { body } = context;
  const diskId = idOf(body, 'disk') ?? idOf(body, 'image');
  const volumeId = idOf(body, 'snapshot');
  const named = ['disk', 'image', 'snapshot'].filter((field) => body[field] !== undefined);
  if (named.length !== 1) throw incomplete('ImageTransfer', ['disk|snapshot|image'], 'add');
  const backupId = idOf(body, 'backup');
  const hostId = idOf(body, 'host');
  const format = textOf(body, 'format') as TransferRequest['format'] | undefined;
  return {
    ...(diskId !== undefined && { diskId }),
    ...(volumeId !== undefined && { volumeId }),
    ...(backupId !== undefined && { backupId }),
    ...(hostId !== undefined && { hostId }),
    // A client that forgets it gets an upload.
    direction: (textOf(body, 'direction') as Transfer['direction'] | undefined) ?? 'upload',
    ...(format !== undefined && { format }),
    shallow: flagOf(body, 'shallow') ?? false,
    inactivityTimeoutSeconds: numberOf(body, 'inactivity_timeout') ?? core.settings.transferInactivitySeconds,
    timeoutPolicy: (textOf(body, 'timeout_policy') as Transfer['timeoutPolicy'] | undefined) ?? 'legacy',
    correlationId: context.correlationId,
    userId: context.userId,
  };
}

/** Neither `disk` nor `backup` nor `snapshot` comes back: `image.id` is the disk's id. */
function transferView(transfer: Transfer): ApiObject {
  const served = !isFinalizing(transfer.phase) && !isFinished(transfer.phase);
  return {
    href: hrefOf('imagetransfers', transfer.id),
    id: transfer.id,
    phase: transfer.phase,
    direction: transfer.direction,
    active: transfer.active,
    transferred: transfer.transferredBytes,
    inactivity_timeout: transfer.inactivityTimeoutSeconds,
    timeout_policy: transfer.timeoutPolicy,
    format: transfer.format,
    shallow: transfer.shallow,
    host: refOf('hosts', transfer.hostId),
    image: { id: transfer.diskId },
    transfer_url: served ? transfer.transferUrl : undefined,
    proxy_url: served ? transfer.proxyUrl : undefined,
  };
}
