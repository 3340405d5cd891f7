/** Actions that run a machine. Their faults come in the shape of the older actions. */
import type { ApiObject } from '../http/api-object';
import { done } from '../http/reply';
import { found, param, type RequestContext } from '../http/request-context';
import type { Routes } from '../http/route';
import type { Core } from '../model/core';
import type { ActionGroup, Vm } from '../model/entities';
import type { PowerService } from './power-service';

type Work = (vm: Vm, body: ApiObject, context: RequestContext) => string | undefined | Promise<string | undefined>;

export function registerPower(routes: Routes, core: Core, power: PowerService): void {
  const action = (name: string, group: ActionGroup, work: Work): void => {
    routes.add(
      'POST',
      `/vms/:vmId/${name}`,
      async (context) => {
        context.permits(group);
        return done(await work(found(core.db.vms.get(param(context, 'vmId'))), context.body, context));
      },
      { body: 'action', oldAction: true },
    );
  };
  action('start', 'VM_BASIC_OPERATIONS', (vm, body, context) => power.start(vm, body, context));
  action('stop', 'STOP_VM', (vm, body, context) => power.stop(vm, body, context));
  action('shutdown', 'VM_BASIC_OPERATIONS', (vm, body, context) => power.shutdown(vm, body, context));
  action('reboot', 'VM_BASIC_OPERATIONS', (vm, body, context) => power.reboot(vm, body, context));
  action('reset', 'VM_BASIC_OPERATIONS', (vm, body, context) => power.reboot(vm, body, context));
  action('suspend', 'VM_BASIC_OPERATIONS', (vm, _body, context) => power.suspend(vm, context));
  action('migrate', 'VM_BASIC_OPERATIONS', (vm, body, context) => power.migrate(vm, body, context));
  action('freezefilesystems', 'MANIPULATE_VM_SNAPSHOTS', async (vm, _body, context) => {
    await power.freeze(vm, context);
    return undefined;
  });
  action('thawfilesystems', 'MANIPULATE_VM_SNAPSHOTS', async (vm, _body, context) => {
    await power.thaw(vm, context);
    return undefined;
  });
}
