import { randomUUID } from 'node:crypto';
import { flagOf, idOf, objectOf, textOf, type ApiObject } from '../http/api-object';
import { badRequest, conflict, incomplete } from '../http/fault';
import { BLANK_TEMPLATE_ID } from '../inventory/ids';
import type { Core } from '../model/core';
import { attachmentId, type Vm } from '../model/entities';
import { MacAddresses } from './mac-pool';
import { readOvf, type OvfVm } from './ovf-reader';
import {
  defaultAttributes,
  guestOf,
  memoryOf,
  mergeFields,
  requireConsistent,
  requireName,
  splitByTime,
  storedFields,
  versionOf,
} from './vm-attributes';

/**
 * VMs as configuration: created from attributes or from an OVF, changed, renamed. Running them is the power folder's, their disks
 * are the disks folder's. Source: reference §8.
 */
export interface Requester {
  readonly correlationId: string;
  readonly userId: string;
}

export class VmService {
  private readonly macs: MacAddresses;

  constructor(private readonly core: Core) {
    this.macs = new MacAddresses(core);
  }

  /** `POST /vms` with attributes. */
  createFromAttributes(body: ApiObject, requester: Requester): Vm {
    const name = textOf(body, 'name');
    const missing = [
      ...(name === undefined ? ['name'] : []),
      ...(objectOf(body, 'template') === undefined ? ['template.id|name'] : []),
      ...(objectOf(body, 'cluster') === undefined ? ['cluster.id|name'] : []),
    ];
    if (name === undefined || missing.length > 0) {
      throw incomplete('Vm', missing, 'add');
    }
    requireName(name);
    const clusterId = this.clusterOf(body);
    const templateId = this.templateOf(body);
    this.refuseTakenName(name, clusterId, 'NAME_ALREADY_USED');
    const attributes = mergeFields(defaultAttributes, storedFields(body));
    const memoryBytes = memoryOf(body);
    requireConsistent(this.core, memoryBytes, attributes);
    const level = versionOf(objectOf(body, 'custom_compatibility_version'));
    const vm = this.insert({
      id: randomUUID(),
      name,
      description: textOf(body, 'description') ?? '',
      comment: textOf(body, 'comment') ?? '',
      clusterId,
      templateId,
      memoryBytes,
      origin: 'ovirt',
      deleteProtected: flagOf(body, 'delete_protected') ?? false,
      stateless: flagOf(body, 'stateless') ?? false,
      attributes: withMemoryPolicy(attributes, memoryBytes),
      ...(level === undefined ? {} : { customCompatibilityVersion: level }),
      ...(flagOf(attributes, 'tpm_enabled') === true ? { externalData: newExternalData() } : {}),
    });
    this.core.events.log(34, 'normal', `VM ${vm.name} was created.`, this.refs(vm, requester), requester.correlationId);
    return vm;
  }

  /** `POST /vms` with `initialization.configuration` of type ovf. */
  createFromOvf(body: ApiObject, requester: Requester): Vm {
    if (objectOf(body, 'cluster') === undefined) {
      throw incomplete('Vm', ['cluster.id|name'], 'addFromConfiguration');
    }
    const initialization = objectOf(body, 'initialization');
    const configuration = objectOf(initialization, 'configuration');
    if (textOf(configuration, 'type') === 'ova') {
      throw badRequest('OVA_NOT_SUPPORTED', 'Cannot import VM. An OVA configuration needs files on a host.');
    }
    const ovf = readOvf(textOf(configuration, 'data') ?? '');
    const regenerate = flagOf(initialization, 'regenerate_ids') ?? false;
    const clusterId = this.clusterOf(body);
    const name = textOf(body, 'name') ?? ovf.name;
    requireName(name);
    if (!regenerate && this.core.db.vms.has(ovf.id)) {
      throw conflict('VM_CANNOT_IMPORT_VM_EXISTS', `Cannot import VM. A VM with the id ${ovf.id} (${ovf.name}) exists already.`);
    }
    this.refuseTakenName(name, clusterId, 'VM_CANNOT_IMPORT_VM_NAME_EXISTS');
    const macs = this.macsFor(ovf, clusterId, regenerate);
    const attributes = mergeFields(defaultAttributes, ovf.attributes);
    requireConsistent(this.core, ovf.memoryBytes, attributes);
    const vm = this.core.db.transaction(() => {
      const inserted = this.insert({
        id: regenerate ? randomUUID() : ovf.id,
        name,
        description: textOf(body, 'description') ?? ovf.description,
        comment: textOf(body, 'comment') ?? ovf.comment,
        clusterId,
        templateId: BLANK_TEMPLATE_ID,
        memoryBytes: ovf.memoryBytes,
        origin: ovf.origin === 'ovirt' || ovf.origin === 'rhev' ? ovf.origin : 'ovirt',
        deleteProtected: ovf.deleteProtected,
        stateless: ovf.stateless,
        attributes,
        ...(ovf.externalData === undefined ? {} : { externalData: ovf.externalData }),
      });
      this.addNics(inserted, ovf, macs);
      return inserted;
    });
    this.core.events.log(
      124,
      'normal',
      `VM ${vm.name} was imported from the given configuration.`,
      this.refs(vm, requester),
      requester.correlationId,
    );
    this.attachDisks(vm, ovf, requester);
    return vm;
  }

  /** PUT. What a running VM cannot change now waits for its next start. */
  update(vm: Vm, body: ApiObject, requester: Requester): Vm {
    const { db } = this.core;
    const name = textOf(body, 'name') ?? vm.name;
    if (name !== vm.name) {
      requireName(name);
      this.refuseTakenName(name, vm.clusterId, 'NAME_ALREADY_USED');
    }
    const wantedCluster = objectOf(body, 'cluster') === undefined ? vm.clusterId : this.clusterOf(body);
    if (wantedCluster !== vm.clusterId && vm.status !== 'down') {
      throw conflict('VM_STATUS_IS_NOT_DOWN', `Cannot edit VM. The cluster of ${vm.name} can be changed only while it is down.`);
    }
    const fields = storedFields(body);
    const memoryBytes = typeof body['memory'] === 'number' ? body['memory'] : vm.memoryBytes;
    requireConsistent(this.core, memoryBytes, mergeFields(vm.attributes, fields));
    const running = vm.status !== 'down';
    const { now, later } = running ? splitByTime(fields) : { now: fields, later: {} };
    const waiting: ApiObject = { ...later, ...(running && memoryBytes !== vm.memoryBytes ? { memory: memoryBytes } : {}) };
    const level = versionOf(objectOf(body, 'custom_compatibility_version'));
    const attributes = mergeFields(vm.attributes, now);
    const updated = db.vms.put({
      ...vm,
      name,
      description: textOf(body, 'description') ?? vm.description,
      comment: textOf(body, 'comment') ?? vm.comment,
      clusterId: wantedCluster,
      memoryBytes: running ? vm.memoryBytes : memoryBytes,
      deleteProtected: flagOf(body, 'delete_protected') ?? vm.deleteProtected,
      stateless: flagOf(body, 'stateless') ?? vm.stateless,
      attributes,
      guest: guestOf(attributes) === 'linux' ? 'linux' : vm.guest,
      ...(level === undefined ? {} : { customCompatibilityVersion: level }),
      ...(Object.keys(waiting).length === 0 ? {} : { nextRun: mergeFields(vm.nextRun ?? {}, waiting) }),
    });
    this.core.events.log(
      35,
      'normal',
      `VM ${updated.name} configuration was updated.`,
      this.refs(updated, requester),
      requester.correlationId,
    );
    return updated;
  }

  refs(vm: Vm, requester: Requester): { vmId: string; clusterId: string; userId: string; dataCenterId?: string } {
    const dataCenterId = this.core.db.clusters.get(vm.clusterId)?.dataCenterId;
    return { vmId: vm.id, clusterId: vm.clusterId, userId: requester.userId, ...(dataCenterId === undefined ? {} : { dataCenterId }) };
  }

  /** The row and what belongs to every VM: its active snapshot and a console. */
  insert(
    vm: Omit<Vm, 'status' | 'tagIds' | 'creationTime' | 'guest' | 'pretended'> & Partial<Pick<Vm, 'tagIds' | 'guest' | 'pretended'>>,
  ): Vm {
    const { db, clock } = this.core;
    return db.transaction(() => {
      const inserted = db.vms.put({
        status: 'down',
        tagIds: [],
        creationTime: clock.now(),
        guest: guestOf(vm.attributes),
        pretended: false,
        ...vm,
      });
      db.snapshots.put({
        id: randomUUID(),
        vmId: vm.id,
        description: 'Active VM',
        type: 'active',
        status: 'ok',
        date: clock.now(),
        persistMemory: false,
      });
      db.graphicsConsoles.put({ id: randomUUID(), vmId: vm.id, protocol: 'vnc' });
      db.cdroms.put({ id: randomUUID(), vmId: vm.id });
      return inserted;
    });
  }

  private clusterOf(body: ApiObject): string {
    const reference = objectOf(body, 'cluster');
    const { clusters } = this.core.db;
    const id = textOf(reference, 'id') ?? clusters.find((cluster) => cluster.name === textOf(reference, 'name'))?.id;
    if (id === undefined || !clusters.has(id)) {
      throw badRequest('VM_CLUSTER_IS_NOT_VALID', 'Cannot add VM. The cluster does not exist.');
    }
    return id;
  }

  private templateOf(body: ApiObject): string {
    const reference = objectOf(body, 'template');
    const { templates } = this.core.db;
    const id = idOf(body, 'template') ?? templates.find((template) => template.name === textOf(reference, 'name'))?.id;
    if (id === undefined || !templates.has(id)) {
      throw badRequest('TEMPLATE_DOES_NOT_EXIST', 'Cannot add VM. The template does not exist.');
    }
    return id;
  }

  private refuseTakenName(name: string, clusterId: string, code: string): void {
    const { db } = this.core;
    const dataCenterOf = (id: string): string | undefined => db.clusters.get(id)?.dataCenterId;
    if (db.vms.find((vm) => vm.name === name && dataCenterOf(vm.clusterId) === dataCenterOf(clusterId))) {
      throw conflict(code, `The VM name ${name} is already in use.`);
    }
  }

  /** MACs of the OVF's nics in order: new ones, or those of the OVF unless one is taken. */
  private macsFor(ovf: OvfVm, clusterId: string, regenerate: boolean): (string | undefined)[] {
    if (!regenerate && !this.macs.allowsDuplicates(clusterId)) {
      const taken = ovf.nics.filter((nic) => nic.macAddress !== undefined && this.macs.inUse(nic.macAddress));
      if (taken.length > 0) {
        const list = taken.map((nic) => nic.macAddress).join(', ');
        throw conflict('CANNOT_ADD_IFACE_DUE_TO_MAC_DUPLICATES', `Cannot import VM. MAC addresses that are already in use: ${list}.`);
      }
    }
    return ovf.nics.map((nic) => (regenerate ? undefined : nic.macAddress?.toLowerCase()));
  }

  private addNics(vm: Vm, ovf: OvfVm, macs: readonly (string | undefined)[]): void {
    const { db, events } = this.core;
    for (const [index, nic] of ovf.nics.entries()) {
      const profile = db.vnicProfiles.find((candidate) => {
        const network = db.networks.get(candidate.networkId);
        return candidate.name === nic.profile && network?.name === nic.network && network.clusterIds.includes(vm.clusterId);
      });
      if (!profile && nic.profile !== '') {
        events.log(
          1123,
          'warning',
          `VM ${vm.name} was imported without the network of nic ${nic.name}: ${nic.profile} (${nic.network}) is not in its cluster.`,
          {
            vmId: vm.id,
          },
        );
      }
      db.nics.put({
        id: randomUUID(),
        vmId: vm.id,
        name: nic.name,
        interface: nic.interface,
        macAddress: macs[index] ?? this.macs.draw(vm.clusterId),
        plugged: nic.plugged,
        linked: nic.linked,
        ...(profile ? { vnicProfileId: profile.id } : {}),
      });
    }
  }

  /** Disks whose ids are in the OVF, exist and are free; a failure is only an event, the VM stays. */
  private attachDisks(vm: Vm, ovf: OvfVm, requester: Requester): void {
    const { db, events } = this.core;
    for (const { diskId, ...settings } of ovf.disks) {
      const disk = db.disks.get(diskId);
      const taken =
        disk && !disk.shareable && db.attachments.find((attachment) => attachment.diskId === diskId && attachment.snapshotId === undefined);
      if (!disk || taken || disk.status !== 'ok') {
        const why = !disk ? 'it does not exist' : taken ? 'it is attached to another VM' : `it is ${disk.status}`;
        events.log(
          175,
          'warning',
          `Disk ${diskId} could not be attached to VM ${vm.name}: ${why}.`,
          this.refs(vm, requester),
          requester.correlationId,
        );
        continue;
      }
      const active = db.snapshots.find((snapshot) => snapshot.vmId === vm.id && snapshot.type === 'active');
      db.transaction(() => {
        db.attachments.put({
          id: attachmentId(vm.id, diskId),
          vmId: vm.id,
          diskId,
          passDiscard: false,
          usesScsiReservation: false,
          ...settings,
        });
        if (disk.activeVolumeId !== undefined && active) {
          db.volumes.update(disk.activeVolumeId, { snapshotId: active.id });
        }
      });
    }
  }
}

/** The engine fills in what the client left out. */
function withMemoryPolicy(attributes: ApiObject, memoryBytes: number): ApiObject {
  return {
    ...attributes,
    memory_policy: { guaranteed: memoryBytes, max: memoryBytes * 4, ballooning: true, ...objectOf(attributes, 'memory_policy') },
  };
}

/** Stands for the TPM state that a guest would have made: secret, and only in snapshot OVFs. */
function newExternalData(): string {
  const secret = Buffer.from(`lab-tpm-${randomUUID()}`).toString('base64');
  return `<Section xsi:type="ovf:VmExternalDataSection_Type"><Info>VM external data</Info><VmExternalDataItem><VmExternalDataKind>tpm</VmExternalDataKind><VmExternalDataContent>${secret}</VmExternalDataContent></VmExternalDataItem></Section>`;
}

/** Called by the power folder when a VM has gone down: what waited takes effect. */
export function applyNextRun(core: Core, vmId: string): void {
  const vm = core.db.vms.get(vmId);
  if (vm?.nextRun) {
    const { memory, ...fields } = vm.nextRun;
    const attributes = mergeFields(vm.attributes, fields);
    core.db.vms.update(vmId, {
      attributes,
      guest: guestOf(attributes) === 'linux' ? 'linux' : vm.guest,
      memoryBytes: typeof memory === 'number' ? memory : vm.memoryBytes,
      nextRun: undefined,
    });
  }
}
