import { randomUUID } from 'node:crypto';
import { flagOf, objectOf, textOf, type ApiObject } from '../http/api-object';
import { badRequest, conflict, incomplete } from '../http/fault';
import { hrefOf, refOf } from '../http/href';
import { created, done, list, ok } from '../http/reply';
import { found, param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { Nic, Vm } from '../model/entities';
import { MacAddresses } from './mac-pool';
import { reportedDevices } from './reported-devices';

/** `/vms/:vmId/nics` and what a guest agent reports of them. */
export function registerNics(routes: Routes, core: Core): void {
  const { db } = core;
  const macs = new MacAddresses(core);
  const vmOf = (context: RequestContext): Vm => found(db.vms.get(param(context, 'vmId')));
  const nicOf = (context: RequestContext): Nic => {
    const vm = vmOf(context);
    return found(db.nics.find((nic) => nic.vmId === vm.id && nic.id === param(context, 'nicId')));
  };

  routes.add('GET', '/vms/:vmId/nics', (context) => {
    const vm = vmOf(context);
    return list('nic', db.nics.list((nic) => nic.vmId === vm.id).map(nicView));
  });
  routes.add('GET', '/vms/:vmId/nics/:nicId', (context) => ok('nic', nicView(nicOf(context))));
  routes.add(
    'POST',
    '/vms/:vmId/nics',
    (context) => {
      context.permits('CONFIGURE_VM_NETWORK');
      const vm = vmOf(context);
      const { body } = context;
      const name = textOf(body, 'name');
      if (name === undefined) {
        throw incomplete('Nic', ['name'], 'add');
      }
      refuseTakenNicName(core, vm, name);
      const profileId = profileOf(core, vm, body);
      const wanted = textOf(objectOf(body, 'mac'), 'address');
      const nic = db.nics.put({
        id: randomUUID(),
        vmId: vm.id,
        name,
        interface: (textOf(body, 'interface') as Nic['interface'] | undefined) ?? 'virtio',
        macAddress: wanted === undefined ? macs.draw(vm.clusterId) : macs.claim(vm.clusterId, wanted),
        plugged: flagOf(body, 'plugged') ?? true,
        linked: flagOf(body, 'linked') ?? true,
        ...(profileId === undefined ? {} : { vnicProfileId: profileId }),
      });
      core.events.log(
        932,
        'normal',
        `Interface ${name} was added to VM ${vm.name}.`,
        { vmId: vm.id, userId: context.userId },
        context.correlationId,
      );
      return created('nic', nicView(nic));
    },
    { body: 'nic' },
  );
  routes.add(
    'PUT',
    '/vms/:vmId/nics/:nicId',
    (context) => {
      context.permits('CONFIGURE_VM_NETWORK');
      const vm = vmOf(context);
      const nic = nicOf(context);
      const { body } = context;
      const name = textOf(body, 'name') ?? nic.name;
      if (name !== nic.name) {
        refuseTakenNicName(core, vm, name);
      }
      const wanted = textOf(objectOf(body, 'mac'), 'address');
      if (wanted !== undefined && wanted.toLowerCase() !== nic.macAddress && vm.status !== 'down' && nic.plugged) {
        throw conflict(
          'CANNOT_UPDATE_MAC_OF_PLUGGED_NIC',
          `Cannot edit Interface. The MAC address of ${nic.name} can be changed only while it is unplugged or the VM is down.`,
        );
      }
      const profileId = objectOf(body, 'vnic_profile') === undefined ? nic.vnicProfileId : profileOf(core, vm, body);
      const { vnicProfileId, ...rest } = nic;
      void vnicProfileId;
      const updated = db.nics.put({
        ...rest,
        name,
        interface: (textOf(body, 'interface') as Nic['interface'] | undefined) ?? nic.interface,
        macAddress: wanted === undefined ? nic.macAddress : macs.claim(vm.clusterId, wanted, nic.id),
        plugged: flagOf(body, 'plugged') ?? nic.plugged,
        linked: flagOf(body, 'linked') ?? nic.linked,
        ...(profileId === undefined ? {} : { vnicProfileId: profileId }),
      });
      return ok('nic', nicView(updated));
    },
    { body: 'nic' },
  );
  routes.add('DELETE', '/vms/:vmId/nics/:nicId', (context) => {
    context.permits('CONFIGURE_VM_NETWORK');
    const vm = vmOf(context);
    const nic = nicOf(context);
    if (vm.status !== 'down' && nic.plugged) {
      throw conflict('CANNOT_REMOVE_ACTIVE_DEVICE', `Cannot remove Interface. ${nic.name} is plugged to a VM that is not down.`);
    }
    db.nics.delete(nic.id);
    core.events.log(
      930,
      'normal',
      `Interface ${nic.name} was removed from VM ${vm.name}.`,
      { vmId: vm.id, userId: context.userId },
      context.correlationId,
    );
    return done();
  });
  for (const [action, plugged] of [
    ['activate', true],
    ['deactivate', false],
  ] as const) {
    routes.add(
      'POST',
      `/vms/:vmId/nics/:nicId/${action}`,
      (context) => {
        context.permits('CONFIGURE_VM_NETWORK');
        db.nics.update(nicOf(context).id, { plugged });
        return done();
      },
      { body: 'action', oldAction: true },
    );
  }
  routes.add('GET', '/vms/:vmId/reporteddevices', async (context) => {
    const reported = await reportedDevices(core, vmOf(context));
    return list(
      'reported_device',
      reported.map(({ view }) => view),
    );
  });
  routes.add('GET', '/vms/:vmId/nics/:nicId/reporteddevices', async (context) => {
    const { id } = nicOf(context);
    const reported = await reportedDevices(core, vmOf(context));
    return list(
      'reported_device',
      reported.filter(({ nic }) => nic.id === id).map(({ view }) => view),
    );
  });
}

export const nicView = (nic: Nic): ApiObject => ({
  href: hrefOf('vms', nic.vmId, 'nics', nic.id),
  id: nic.id,
  name: nic.name,
  interface: nic.interface,
  linked: nic.linked,
  plugged: nic.plugged,
  synced: true,
  mac: { address: nic.macAddress },
  vnic_profile: refOf('vnicprofiles', nic.vnicProfileId),
  vm: refOf('vms', nic.vmId),
});

function refuseTakenNicName(core: Core, vm: Vm, name: string): void {
  if (core.db.nics.find((nic) => nic.vmId === vm.id && nic.name === name)) {
    throw conflict('NETWORK_INTERFACE_NAME_ALREADY_IN_USE', `Cannot add Interface. The name ${name} is in use on VM ${vm.name}.`);
  }
}

/** A profile must belong to a network of the VM's cluster; none means an empty one. */
function profileOf(core: Core, vm: Vm, body: ApiObject): string | undefined {
  const id = textOf(objectOf(body, 'vnic_profile'), 'id');
  if (id === undefined) {
    return undefined;
  }
  const profile = core.db.vnicProfiles.get(id);
  const network = profile && core.db.networks.get(profile.networkId);
  if (!profile || network?.clusterIds.includes(vm.clusterId) !== true) {
    throw badRequest(
      'NETWORK_NOT_IN_CLUSTER',
      `Cannot add Interface. The vNIC profile ${id} does not exist in the cluster of VM ${vm.name}.`,
    );
  }
  return profile.id;
}
