/**
 * A small simulated engine for tests: one data center, one cluster, hosts, file domains and machines, with requests made
 * straight to the routes (no HTTP), engine time running fast, and any {@link HostFleet} behind it.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HostFleet } from '../../hosts/driver';
import { FaultPlan, type FaultRule } from '../control/fault-plan';
import { composeEngine, type EngineRun } from '../engine';
import type { ApiObject } from '../http/api-object';
import { EngineFault } from '../http/fault';
import { QueryParameters } from '../http/query-parameters';
import type { RequestContext } from '../http/request-context';
import type { Core } from '../model/core';
import { attachmentId, type Disk, type Host, type StorageDomain, type User, type Vm } from '../model/entities';
import type { EngineSettings } from '../model/settings';

export const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

export interface Answer {
  readonly status: number;
  readonly body: ApiObject;
  readonly entities: readonly ApiObject[];
  /** Name of the engine message when it refused. */
  readonly refusal: string | undefined;
  readonly detail: string | undefined;
}

export interface BenchOptions {
  readonly level?: { readonly major: number; readonly minor: number };
  readonly clockFactor?: number;
  readonly settings?: Partial<EngineSettings>;
  /** Real hosts of a fleet; two are invented otherwise. */
  readonly hostIds?: readonly string[];
  readonly domainIds?: readonly string[];
}

export interface DiskSeed {
  readonly format?: 'raw' | 'cow';
  readonly sizeBytes?: number;
  readonly backup?: 'none' | 'incremental';
  readonly shareable?: boolean;
  readonly storageType?: Disk['storageType'];
  readonly active?: boolean;
  readonly bootable?: boolean;
}

/** A text field of an answer; empty when it is not there, so that the next request fails by name. */
export const text = (value: unknown): string => (typeof value === 'string' ? value : '');

export class EngineBench {
  readonly faults = new FaultPlan();
  readonly clusterId = randomUUID();
  readonly dataCenterId = randomUUID();
  readonly hostIds: readonly string[];
  readonly domainIds: readonly string[];
  private readonly dataDir = mkdtempSync(join(tmpdir(), 'lab-engine-'));
  private run: EngineRun;
  private requests = 0;
  /** What the engine logged as errors; shown when a wait fails. */
  private readonly errors: string[] = [];

  private constructor(
    readonly fleet: HostFleet,
    private readonly options: BenchOptions,
  ) {
    this.hostIds = options.hostIds ?? [randomUUID(), randomUUID()];
    this.domainIds = options.domainIds ?? [randomUUID()];
    this.run = this.compose();
  }

  static async open(fleet: HostFleet, options: BenchOptions = {}): Promise<EngineBench> {
    const bench = new EngineBench(fleet, options);
    bench.seed();
    await bench.run.start();
    return bench;
  }

  get core(): Core {
    return this.run.core;
  }

  get db(): Core['db'] {
    return this.run.core.db;
  }

  /** As after a kill -9: nothing but the stored state and the hosts is left. */
  async restart(): Promise<void> {
    await this.run.stop();
    this.run = this.compose();
    await this.run.start();
  }

  async close(): Promise<void> {
    await this.run.stop();
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  fail(step: string, times = 1): FaultRule {
    return this.faults.add({ match: { step, times }, effect: { kind: 'fault', status: 400 } });
  }

  setLevel(major: number, minor: number): void {
    this.db.clusters.update(this.clusterId, { version: { major, minor } });
  }

  /** A machine with disks whose files exist; `up` puts its process on the first host. */
  async addVm(name: string, disks: readonly DiskSeed[], status: 'up' | 'down' = 'down'): Promise<{ vm: Vm; disks: Disk[] }> {
    const { db } = this.core;
    const id = randomUUID();
    const activeId = randomUUID();
    db.vms.put({
      id,
      name,
      description: '',
      comment: '',
      clusterId: this.clusterId,
      templateId: '00000000-0000-0000-0000-000000000000',
      status: 'down',
      origin: 'ovirt',
      memoryBytes: GIB,
      deleteProtected: false,
      stateless: false,
      attributes: {},
      tagIds: [],
      creationTime: Date.now(),
      guest: 'none',
      pretended: false,
    });
    db.snapshots.put({
      id: activeId,
      vmId: id,
      description: 'Active VM',
      type: 'active',
      status: 'ok',
      date: Date.now(),
      persistMemory: false,
    });
    const made: Disk[] = [];
    for (const [index, seed] of disks.entries()) {
      const disk = await this.addDisk(`${name}_Disk${String(index + 1)}`, seed, activeId);
      db.attachments.put({
        id: attachmentId(id, disk.id),
        vmId: id,
        diskId: disk.id,
        interface: 'virtio_scsi',
        active: seed.active ?? true,
        bootable: seed.bootable ?? index === 0,
        readOnly: false,
        passDiscard: false,
        usesScsiReservation: false,
      });
      made.push(disk);
    }
    if (status === 'up') await this.startVm(id);
    return { vm: db.vms.require(id), disks: made };
  }

  async startVm(vmId: string): Promise<void> {
    const answer = await this.call('POST', `/vms/${vmId}/start`);
    if (answer.status !== 200) throw new Error(`start was refused: ${String(answer.refusal)}`);
    await this.until(() => this.db.vms.get(vmId)?.status === 'up', `VM ${vmId} up`);
  }

  async addDisk(name: string, seed: DiskSeed = {}, snapshotId?: string): Promise<Disk> {
    const { db } = this.core;
    const [domainId = ''] = this.domainIds;
    const format = seed.format ?? 'cow';
    const isImage = (seed.storageType ?? 'image') === 'image';
    const size = seed.sizeBytes ?? 16 * MIB;
    const id = randomUUID();
    const volumeId = randomUUID();
    const disk = db.disks.put({
      id,
      name,
      description: '',
      status: 'ok',
      storageType: seed.storageType ?? 'image',
      contentType: 'data',
      format,
      sparse: true,
      provisionedSizeBytes: size,
      backup: seed.backup ?? 'none',
      shareable: seed.shareable ?? false,
      wipeAfterDelete: false,
      propagateErrors: false,
      ...(isImage && { storageDomainId: domainId, activeVolumeId: volumeId }),
      actualSizeBytes: 0,
      totalSizeBytes: 0,
      createdAt: Date.now(),
      pretended: false,
    });
    if (!isImage) return disk;
    db.volumes.put({
      id: volumeId,
      diskId: id,
      domainId,
      format,
      sparse: true,
      virtualSizeBytes: size,
      actualSizeBytes: 0,
      ...(snapshotId !== undefined && { snapshotId }),
      status: 'ok',
      createdAt: Date.now(),
    });
    await this.fleet.createVolume({ domainId, diskId: id, volumeId, format, virtualSizeBytes: size, sparse: true });
    return disk;
  }

  /** One request to the routes, as an administrator. `path` may carry a query. */
  async call(method: string, path: string, body: ApiObject = {}): Promise<Answer> {
    const url = new URL(path, 'http://engine');
    const match = this.run.routes.match(method, url.pathname);
    if (match === undefined) throw new Error(`no route for ${method} ${path}`);
    this.requests += 1;
    const user: User = { id: 'admin', userName: 'admin@internal', password: '', roleIds: [], revokedPermits: [], locked: false };
    const context: RequestContext = {
      method,
      path: url.pathname,
      params: match.params,
      query: new QueryParameters([...url.searchParams]),
      body,
      user,
      userId: user.id,
      correlationId: `test-${String(this.requests)}`,
      allContent: url.searchParams.get('all_content') === 'true',
      filtered: false,
      permits: () => undefined,
    };
    try {
      const reply = await match.route.handler(context);
      const entity = reply.kind === 'entity' ? reply.entity : reply.kind === 'action' ? reply.action : {};
      const entities = reply.kind === 'collection' ? reply.entities : [];
      return { status: reply.status, body: entity, entities, refusal: undefined, detail: undefined };
    } catch (error) {
      if (!(error instanceof EngineFault)) throw error;
      return { status: error.status, body: {}, entities: [], refusal: error.code, detail: error.detail };
    }
  }

  /** Polls a condition; fails with what was awaited after a time that a machine which stands still for a while does not reach. */
  async until(condition: () => boolean | Promise<boolean>, what: string, timeoutMs = 60_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!(await condition())) {
      if (Date.now() > deadline) throw new Error(`waited in vain for: ${what}; the engine logged: ${this.errors.slice(-5).join('; ')}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  eventCodes(): number[] {
    return this.core.events.list().map((event) => event.code);
  }

  private compose(): EngineRun {
    return composeEngine({
      fleet: this.fleet,
      dataDir: this.dataDir,
      faults: this.faults,
      settings: { clockFactor: this.options.clockFactor ?? 1_000, ...this.options.settings },
      log: {
        info: () => undefined,
        error: (text, error) => {
          this.errors.push(`${text}: ${String(error)}`);
        },
      },
    });
  }

  private seed(): void {
    const { db } = this.core;
    const common = { description: '', comment: '' };
    db.dataCenters.put({
      id: this.dataCenterId,
      name: 'Default',
      ...common,
      version: { major: 4, minor: 8 },
      status: 'up',
      local: false,
      storageFormat: 'v5',
      quotaMode: 'disabled',
      macPoolId: randomUUID(),
    });
    db.clusters.put({
      id: this.clusterId,
      name: 'Default',
      ...common,
      dataCenterId: this.dataCenterId,
      version: this.options.level ?? { major: 4, minor: 6 },
      cpuType: 'Secure Intel Cascadelake Server Family',
      architecture: 'x86_64',
      biosType: 'q35_sea_bios',
      macPoolId: randomUUID(),
    });
    for (const [index, id] of this.hostIds.entries()) db.hosts.put(host(id, `host${String(index + 1)}`, this.clusterId));
    for (const [index, id] of this.domainIds.entries()) db.storageDomains.put(domain(id, `data${String(index + 1)}`, this.dataCenterId));
  }
}

function host(id: string, name: string, clusterId: string): Host {
  return {
    id,
    name,
    description: '',
    comment: '',
    address: `${name}.lab`,
    status: 'up',
    clusterId,
    spm: false,
    memoryBytes: 16 * GIB,
    cpuCores: 4,
    pretended: false,
  };
}

function domain(id: string, name: string, dataCenterId: string): StorageDomain {
  return {
    id,
    name,
    description: '',
    comment: '',
    type: 'data',
    storageType: 'nfs',
    address: 'nfs.lab',
    path: `/${name}`,
    storageFormat: 'v5',
    master: true,
    dataCenterId,
    status: 'active',
    backup: false,
    wipeAfterDelete: false,
    discardAfterDelete: false,
    warningLowSpacePercent: 10,
    criticalSpaceGib: 1,
  };
}
