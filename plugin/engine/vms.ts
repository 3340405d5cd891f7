/** VMs. Fields: engine REST API §3.1; create, import, power and delete: §8, §9.4. */
import { hasCode } from '../../common/errors/tidemark-error';
import { diskAttachmentOf } from './disk-attachments';
import type { DiskAttachment } from './disk-attachments';
import type { EngineClient } from './engine-client';
import { quoted } from './engine-client';
import type { RequestOptions } from './engine-session';
import { compact, dateOf, flagOf, idOf, integerOf, nestedOf, objectOf, textOf, versionOf } from './mapping';
import type { Version, Wire } from './mapping';
import { nicOf } from './nics';
import type { Nic } from './nics';
import { snapshotOf } from './snapshots';
import type { Snapshot } from './snapshots';
import { tagOf } from './tags';
import type { Tag } from './tags';

export interface Vm {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly comment: string;
  /** up, down, paused …; absent when the engine has no word for it (illegal image). */
  readonly status: string | undefined;
  readonly statusDetail: string | undefined;
  /** ovirt, managed_hosted_engine, hosted_engine, external, kubevirt … */
  readonly origin: string | undefined;
  readonly type: string | undefined;
  readonly clusterId: string;
  /** Only while it runs. */
  readonly hostId: string | undefined;
  readonly templateId: string | undefined;
  /** Absent when the cluster's counts. */
  readonly customCompatibilityVersion: Version | undefined;
  readonly operatingSystem: string;
  readonly biosType: string | undefined;
  readonly memoryBytes: number | undefined;
  readonly fqdn: string | undefined;
  /** The guest agent reports (only while it runs). */
  readonly guestAgentReports: boolean;
  readonly deleteProtected: boolean;
  readonly stateless: boolean;
  readonly poolId: string | undefined;
  readonly hasIllegalImages: boolean;
  readonly nextRunConfigurationExists: boolean;
  readonly tpmEnabled: boolean;
  readonly leaseStorageDomainId: string | undefined;
  readonly highlyAvailable: boolean;
  readonly createdAt: Date | undefined;
  readonly startedAt: Date | undefined;
  /** With `ovf: true` only, and even then absent while the VM or one of its disks is locked. */
  readonly ovf: string | undefined;
  /** Undefined unless asked for with `with`. */
  readonly diskAttachments: readonly DiskAttachment[] | undefined;
  readonly nics: readonly Nic[] | undefined;
  readonly snapshots: readonly Snapshot[] | undefined;
  readonly tags: readonly Tag[] | undefined;
}

/** What may be read along with a VM in the same request. */
export type VmPart = 'diskAttachments' | 'nics' | 'snapshots' | 'tags';

const followOf: Record<VmPart, string> = {
  diskAttachments: 'diskattachments.disk',
  nics: 'nics',
  snapshots: 'snapshots',
  tags: 'tags',
};

export interface VmReadOptions extends RequestOptions {
  readonly with?: readonly VmPart[];
  /** Ask for the OVF. */
  readonly ovf?: boolean;
}

/** Import and create run in the request. */
const createTimeoutMs = 180_000;

export class Vms {
  constructor(private readonly client: EngineClient) {}

  /** Throws ENGINE_NOT_FOUND. */
  async get(vmId: string, options: VmReadOptions = {}): Promise<Vm> {
    return vmOf(await this.client.read(`/vms/${vmId}`, readOptions(options)));
  }

  async find(vmId: string, options: VmReadOptions = {}): Promise<Vm | undefined> {
    const wire = await this.client.find(`/vms/${vmId}`, readOptions(options));
    return wire && vmOf(wire);
  }

  /** The VM as the engine writes it, all content: what a restore point keeps of its attributes. */
  raw(vmId: string, options: RequestOptions = {}): Promise<Wire> {
    return this.client.read(`/vms/${vmId}`, { ...options, allContent: true });
  }

  async findByName(name: string, options: VmReadOptions = {}): Promise<Vm | undefined> {
    const rows = await this.client.list('/vms', 'vm', {
      ...readOptions(options),
      query: { ...readOptions(options).query, search: `name=${quoted(name)}`, max: 2 },
    });
    return rows.map(vmOf).find((vm) => vm.name === name);
  }

  /** All VMs, page by page; `search` is the engine's language. */
  async *pages(options: VmReadOptions & { search?: string; pageSize?: number } = {}): AsyncGenerator<readonly Vm[], void, undefined> {
    const { search, pageSize } = options;
    const paging = compact({ search, pageSize }) as { search?: string; pageSize?: number };
    for await (const rows of this.client.pages('/vms', 'vm', { ...readOptions(options), ...paging, sortBy: 'name' })) yield rows.map(vmOf);
  }

  /**
   * Creates a VM from attributes in the engine's own names (`{ name, cluster: { id }, template: { id } … }`). A lost answer is made good
   * by name, so the name must be fresh. Throws ENGINE_REFUSED (name used, quota …).
   */
  async create(attributes: Wire & { readonly name: string }, options: RequestOptions = {}): Promise<Vm> {
    return vmOf(
      await this.client.create('/vms', attributes, {
        timeoutMs: createTimeoutMs,
        ...options,
        find: () => this.#findWireByName(attributes.name, options),
      }),
    );
  }

  /**
   * Makes a VM from an OVF, without its disks when the OVF has none. `regenerateIds` gives a new id and new MAC addresses.
   */
  async importOvf(
    target: { readonly name: string; readonly clusterId: string; readonly ovf: string; readonly regenerateIds: boolean },
    options: RequestOptions = {},
  ): Promise<Vm> {
    const body = {
      name: target.name,
      cluster: { id: target.clusterId },
      initialization: { regenerate_ids: target.regenerateIds, configuration: { type: 'ovf', data: target.ovf } },
    };
    return vmOf(
      await this.client.create('/vms', body, {
        timeoutMs: createTimeoutMs,
        ...options,
        find: () => this.#findWireByName(target.name, options),
      }),
    );
  }

  /** Changes attributes, in the engine's names. */
  async update(vmId: string, attributes: Wire, options: RequestOptions = {}): Promise<Vm> {
    return vmOf(await this.client.update(`/vms/${vmId}`, attributes, options));
  }

  /** False when it is gone already. Throws ENGINE_CONFLICT while locked, ENGINE_REFUSED (running, protected). Watch it go. */
  remove(vmId: string, options: RequestOptions & { keepDisks?: boolean; force?: boolean } = {}): Promise<boolean> {
    const { keepDisks, force, ...rest } = options;
    return this.client.remove(`/vms/${vmId}`, { ...rest, query: { detach_only: keepDisks === true ? true : undefined, force } });
  }

  /** Returns when the start is accepted; poll the status. A VM that runs already is fine. */
  async start(vmId: string, options: RequestOptions = {}): Promise<void> {
    await this.#power(vmId, 'start', {}, options, (status) => status !== 'down');
  }

  /**
   * Runs the VM once with what `runOnce` says (in the engine's names), config drive included: nothing of it is kept with the VM. Secrets in
   * it go no further than the request. A VM that runs already has got another drive, so that is an error: ENGINE_REFUSED.
   */
  async startWithCloudInit(vmId: string, runOnce: Wire, options: RequestOptions = {}): Promise<void> {
    await this.client.act(`/vms/${vmId}/start`, { use_cloud_init: true, vm: runOnce }, options);
  }

  /** Cuts the power; poll until it is down. A VM that is down or on its way already is fine. */
  async stop(vmId: string, options: RequestOptions & { force?: boolean } = {}): Promise<void> {
    const { force, ...rest } = options;
    await this.#power(vmId, 'stop', compact({ force }), rest, (status) => status === 'down' || status === 'powering_down');
  }

  /** Asks the guest; it may ignore it. */
  async shutdown(vmId: string, options: RequestOptions = {}): Promise<void> {
    await this.#power(vmId, 'shutdown', {}, options, (status) => status === 'down' || status === 'powering_down');
  }

  /** 200 means frozen. Throws ENGINE_REFUSED when the guest agent cannot. Always thaw. */
  async freezeFileSystems(vmId: string, options: RequestOptions = {}): Promise<void> {
    await this.client.act(`/vms/${vmId}/freezefilesystems`, {}, options);
  }

  async thawFileSystems(vmId: string, options: RequestOptions = {}): Promise<void> {
    await this.client.actAgain(`/vms/${vmId}/thawfilesystems`, {}, options);
  }

  async #power(
    vmId: string,
    action: string,
    body: object,
    options: RequestOptions,
    done: (status: string | undefined) => boolean,
  ): Promise<void> {
    try {
      await this.client.act(`/vms/${vmId}/${action}`, body, options);
    } catch (error) {
      // A lost answer, or a refusal because it is as wanted already: the status tells.
      if (!hasCode(error, 'ENGINE_REFUSED', 'ENGINE_UNAVAILABLE', 'ENGINE_CONFLICT')) throw error;
      const vm = await this.find(vmId, { signal: options.signal });
      if (!vm || !done(vm.status)) throw error;
    }
  }

  async #findWireByName(name: string, options: RequestOptions): Promise<Wire | undefined> {
    const rows = await this.client.list('/vms', 'vm', { ...options, query: { search: `name=${quoted(name)}`, max: 2 } });
    return rows.find((row) => textOf(row, 'name') === name);
  }
}

function readOptions(options: VmReadOptions) {
  const { signal, timeoutMs, correlationId, ovf } = options;
  const follow = options.with?.map((part) => followOf[part]).join(',');
  return { signal, timeoutMs, correlationId, allContent: ovf, query: { follow: follow === '' ? undefined : follow } };
}

export function vmOf(wire: Wire): Vm {
  const initialization = objectOf(wire, 'initialization');
  const configuration = initialization && objectOf(initialization, 'configuration');
  const lease = objectOf(wire, 'lease');
  const availability = objectOf(wire, 'high_availability');
  const bios = objectOf(wire, 'bios');
  const os = objectOf(wire, 'os');
  return {
    id: textOf(wire, 'id') ?? '',
    name: textOf(wire, 'name') ?? '',
    description: textOf(wire, 'description') ?? '',
    comment: textOf(wire, 'comment') ?? '',
    status: textOf(wire, 'status'),
    statusDetail: textOf(wire, 'status_detail'),
    origin: textOf(wire, 'origin'),
    type: textOf(wire, 'type'),
    clusterId: idOf(wire, 'cluster') ?? '',
    hostId: idOf(wire, 'host'),
    templateId: idOf(wire, 'template'),
    customCompatibilityVersion: versionOf(wire, 'custom_compatibility_version'),
    operatingSystem: (os && textOf(os, 'type')) ?? '',
    biosType: bios && textOf(bios, 'type'),
    memoryBytes: integerOf(wire, 'memory'),
    fqdn: textOf(wire, 'fqdn'),
    guestAgentReports: objectOf(wire, 'guest_operating_system') !== undefined || (textOf(wire, 'fqdn') ?? '') !== '',
    deleteProtected: flagOf(wire, 'delete_protected'),
    stateless: flagOf(wire, 'stateless'),
    poolId: idOf(wire, 'vm_pool'),
    hasIllegalImages: flagOf(wire, 'has_illegal_images'),
    nextRunConfigurationExists: flagOf(wire, 'next_run_configuration_exists'),
    tpmEnabled: flagOf(wire, 'tpm_enabled'),
    leaseStorageDomainId: lease && idOf(lease, 'storage_domain'),
    highlyAvailable: availability !== undefined && flagOf(availability, 'enabled'),
    createdAt: dateOf(wire, 'creation_time'),
    startedAt: dateOf(wire, 'start_time'),
    ovf: configuration && textOf(configuration, 'type') === 'ovf' ? textOf(configuration, 'data') : undefined,
    diskAttachments: objectOf(wire, 'disk_attachments') && nestedOf(wire, 'disk_attachments', 'disk_attachment').map(diskAttachmentOf),
    nics: objectOf(wire, 'nics') && nestedOf(wire, 'nics', 'nic').map(nicOf),
    snapshots: objectOf(wire, 'snapshots') && nestedOf(wire, 'snapshots', 'snapshot').map(snapshotOf),
    tags: objectOf(wire, 'tags') && nestedOf(wire, 'tags', 'tag').map(tagOf),
  };
}
