import { objectOf, textOf, type ApiObject } from '../http/api-object';
import { hrefOf, refOf } from '../http/href';
import type { Core } from '../model/core';
import type { Vm } from '../model/entities';
import { mergeFields } from './vm-attributes';
import { biosTypeOf, writeOvf } from './ovf-writer';

export interface VmViewOptions {
  /** Adds the OVF, unless it is hidden just now. */
  readonly ovf: boolean;
  /** Non-administrators never see the host and the placement. */
  readonly filtered: boolean;
  /** `next_run=true`: the configuration that waits. */
  readonly nextRun?: boolean;
}

/** A VM in the API's shape. */
export function vmView(core: Core, vm: Vm, options: VmViewOptions): ApiObject {
  const { db } = core;
  const { initialization, placement_policy, ...attributes } =
    options.nextRun === true ? mergeFields(vm.attributes, vm.nextRun ?? {}) : vm.attributes;
  const hasAgent = vm.status === 'up' && vm.guest === 'linux';
  const running = vm.hostId !== undefined;
  return {
    ...attributes,
    href: hrefOf('vms', vm.id),
    id: vm.id,
    name: vm.name,
    description: vm.description,
    comment: vm.comment,
    status: vm.status,
    status_detail: vm.statusDetail,
    stop_reason: vm.stopReason,
    origin: vm.origin,
    memory: vm.memoryBytes,
    bios: { ...objectOf(vm.attributes, 'bios'), type: biosTypeOf(db, vm), boot_menu: { enabled: false } },
    cpu: { architecture: db.clusters.get(vm.clusterId)?.architecture ?? 'x86_64', ...objectOf(attributes, 'cpu') },
    delete_protected: vm.deleteProtected,
    stateless: vm.stateless,
    creation_time: vm.creationTime,
    start_time: running ? vm.startTime : undefined,
    stop_time: vm.stopTime,
    run_once: running ? vm.runOnce !== undefined : undefined,
    next_run_configuration_exists: vm.nextRun !== undefined,
    ...(hasIllegalImages(core, vm) ? { has_illegal_images: true } : {}),
    custom_compatibility_version: vm.customCompatibilityVersion && { ...vm.customCompatibilityVersion },
    cluster: refOf('clusters', vm.clusterId),
    template: refOf('templates', vm.templateId),
    original_template: refOf('templates', vm.templateId),
    ...(options.filtered ? {} : { host: refOf('hosts', vm.hostId), placement_policy }),
    ...(hasAgent
      ? {
          fqdn: `${vm.name}.lab`,
          guest_operating_system: {
            family: 'Linux',
            distribution: 'BusyBox',
            codename: '',
            architecture: 'x86_64',
            version: { full_version: '1' },
          },
          guest_time_zone: { name: 'UTC', utc_offset: '+00:00' },
        }
      : {}),
    initialization: initializationView(core, vm, initialization as ApiObject | undefined, options.ovf),
  };
}

function initializationView(core: Core, vm: Vm, stored: ApiObject | undefined, withOvf: boolean): ApiObject | undefined {
  const masked: ApiObject = { ...stored, ...(textOf(stored, 'root_password') === undefined ? {} : { root_password: '******' }) };
  const ovf = withOvf && !isOvfHidden(core, vm) ? writeOvf(core.db, vm, { externalData: false }) : undefined;
  const view: ApiObject = { ...masked, ...(ovf === undefined ? {} : { configuration: { type: 'ovf', data: ovf } }) };
  return Object.keys(view).length === 0 ? undefined : view;
}

/** The OVF is silently missing while the VM's image or any of its disks is locked. */
function isOvfHidden(core: Core, vm: Vm): boolean {
  const { db } = core;
  return (
    vm.status === 'image_locked' ||
    db.attachments.find(({ vmId, diskId }) => vmId === vm.id && db.disks.get(diskId)?.status === 'locked') !== undefined
  );
}

function hasIllegalImages(core: Core, vm: Vm): boolean {
  const { db } = core;
  if (vm.pretended) {
    return false;
  }
  const diskIds = new Set(db.attachments.list(({ vmId }) => vmId === vm.id).map(({ diskId }) => diskId));
  return db.volumes.find((volume) => volume.status === 'illegal' && diskIds.has(volume.diskId)) !== undefined;
}
