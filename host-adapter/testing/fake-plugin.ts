import { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { TidemarkError } from '../../common/errors/tidemark-error';
import { failureMessage } from '../../common/rpc/failure-message';
import { timestampToWire } from '../../common/rpc/bytes';
import { pause } from '../../common/rpc/call';
import { serve } from '../../common/rpc/serve';
import type { ServiceHandlers } from '../../common/rpc/serve';
import type { ProcessIdentity } from '../../common/tls/identity';
import type { DataPath__Output } from '../../proto/gen/tidemark/common/v1/DataPath';
import type { PluginRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/PluginRegistryService';
import type { IdentityServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/IdentityService';
import type { InventoryServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/InventoryService';
import type { JanitorServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/JanitorService';
import type { PlatformServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/PlatformService';
import type { Platform } from '../../proto/gen/tidemark/plugin/v1/Platform';
import type { PreflightVerdict } from '../../proto/gen/tidemark/plugin/v1/PreflightVerdict';
import type { ProtectionServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/ProtectionService';
import type { StartBackupRequest__Output } from '../../proto/gen/tidemark/plugin/v1/StartBackupRequest';
import type { StartRestoreRequest__Output } from '../../proto/gen/tidemark/plugin/v1/StartRestoreRequest';
import type { StartWorkerOperationRequest__Output } from '../../proto/gen/tidemark/plugin/v1/StartWorkerOperationRequest';
import type { WatchOperationResponse } from '../../proto/gen/tidemark/plugin/v1/WatchOperationResponse';
import type { WorkerFleetServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/WorkerFleetService';
import { loadService } from '../../proto/loader';
import { FakeFleet } from './fake-fleet';
import { bind, hostClient, keepRegistered, quick, serveOptions } from './fake-process';

/** Moments of an operation at which a test may step in. */
export type Moment = 'started' | 'transferring' | 'awaiting-commit' | 'concluded' | 'ended';

type Event = Omit<WatchOperationResponse, 'sequence' | 'occurredAt'>;

export interface FakeOperation {
  readonly id: string;
  readonly vmId: string;
  readonly backup?: StartBackupRequest__Output;
  readonly restore?: StartRestoreRequest__Output;
  readonly worker?: StartWorkerOperationRequest__Output;
  readonly events: WatchOperationResponse[];
  /** Other ways to its mover session that it was told. */
  readonly dataPaths: DataPath__Output[];
  ended: boolean;
  concluded: boolean | undefined;
  readonly cancel: AbortController;
}

const counters = { plannedBytes: 100, readBytes: 100, transferredBytes: 60, storedBytes: 50, zeroBytes: 10, deduplicatedBytes: 5 };

/** A plug-in in memory that speaks plugin.v1 over mutual TLS; its operations do nothing but tell the story of a backup. */
export class FakePlugin {
  readonly operations = new Map<string, FakeOperation>();
  readonly fleet = new FakeFleet();
  readonly vms = [1, 2, 3].map((n) => ({ platformId: 'platform-1', vmId: `vm-${n}`, name: `web${n}`, status: 'up', tags: ['prod'] }));
  /** A test's own doings; an operation waits for it. */
  at: (moment: Moment, operation: FakeOperation) => Promise<void> = () => Promise.resolve();
  /** Errors that the next operations end with, before the transfer. */
  readonly failures: TidemarkError[] = [];
  readonly verdicts = new Map<string, Partial<PreflightVerdict>>();
  #platforms: Platform[] = [];
  readonly #server = new Server();
  #registration: { stop(): Promise<void> } | undefined;
  #changed = new Set<() => void>();

  constructor(private readonly identity: ProcessIdentity) {}

  get id(): string {
    return this.identity.self.id;
  }

  async start(hostEndpoint: () => string): Promise<void> {
    this.#serve();
    const endpoint = `127.0.0.1:${await bind(this.#server, this.identity)}`;
    const connect = () =>
      hostClient<PluginRegistryServiceDefinition>('plugin_registry_service', 'PluginRegistryService', hostEndpoint(), this.identity);
    this.#registration = keepRegistered(connect, async (client) => {
      const { leaseId } = await client.call(
        'RegisterPlugin',
        {
          process: { instanceId: 'plugin-instance', bootId: 'b', protocols: ['tidemark.plugin.v1'], hostName: 'fake-host', version: '0' },
          pluginId: 'fake',
          endpoint,
          workerEndpoint: endpoint,
          workerEnrolmentEndpoint: endpoint,
        },
        quick,
      );
      return async () => {
        await client.call('Heartbeat', { leaseId }, quick);
      };
    });
  }

  async stop(): Promise<void> {
    await this.#registration?.stop();
    for (const operation of this.operations.values()) operation.cancel.abort();
    this.#server.forceShutdown();
  }

  /** As if it had been restarted: it knows nothing any more. */
  forgetOperations(): void {
    for (const operation of this.operations.values()) {
      operation.ended = true;
      operation.cancel.abort();
    }
    this.operations.clear();
    this.#tell();
  }

  running(): FakeOperation[] {
    return [...this.operations.values()].filter((operation) => !operation.ended);
  }

  async #tellStory(operation: FakeOperation): Promise<void> {
    const emit = (event: Event) => {
      const occurredAt = timestampToWire(new Date());
      operation.events.push({ sequence: String(operation.events.length + 1), occurredAt, ...event });
      this.#tell();
    };
    const asked = (operation.backup ?? operation.restore)?.transport;
    const transport = asked === 'DATA_TRANSPORT_DISK_ATTACHMENT' ? asked : ('DATA_TRANSPORT_IMAGE_TRANSFER' as const);
    const disk = { diskId: `${operation.vmId}-disk`, name: 'disk', sizeBytes: 1000, format: 'cow', sparse: true };
    const outcome = {
      disk,
      mode: 'DISK_READ_MODE_FULL' as const,
      reason: 'first-backup',
      counters,
      transport,
      workerId: 'worker-1',
      workerHop: 'beside-server',
    };
    const end = (result: Event['result']) => {
      operation.ended = true;
      emit({ result: { disks: operation.worker ? [] : [outcome], ...result } });
    };
    const { signal } = operation.cancel;
    try {
      emit({ state: { phase: 'PHASE_PREPARING' } });
      await this.at('started', operation);
      const failure = this.failures.shift();
      if (failure) throw failure;
      emit({ state: { phase: 'PHASE_TRANSFERRING' } });
      emit({ progress: { diskId: disk.diskId, diskName: 'disk', counters, totalBytes: 1000, mode: outcome.mode, reason: outcome.reason } });
      await this.at('transferring', operation);
      if (signal.aborted) throw CommonErrors.CANCELLED({ what: 'the operation' });
      if (operation.backup) {
        const pointInTime = timestampToWire(new Date());
        const awaiting = { pointInTime, checkpointId: `checkpoint-${operation.id}`, consistency: 'crash', disks: [outcome] };
        emit({ awaitingCommit: { ...awaiting, configuration: '{"ovf":"secret"}', vmName: 'web' } });
        await this.at('awaiting-commit', operation);
        while (operation.concluded === undefined) await pause(5, signal);
        await this.at('concluded', operation);
      }
      emit({ state: { phase: 'PHASE_CLEANING' } });
      await this.at('ended', operation);
      if (operation.worker) return end(this.fleet.conclude(operation.worker));
      const good = !operation.backup || operation.concluded === true;
      end({ outcome: good ? 'OUTCOME_SUCCESS' : 'OUTCOME_FAILED', createdId: operation.restore ? 'new-vm' : '' });
    } catch (error) {
      if (signal.aborted) return end({ outcome: 'OUTCOME_CANCELLED' });
      const failure = error instanceof TidemarkError ? error : CommonErrors.INTERNAL({ what: 'the fake' });
      end({ outcome: 'OUTCOME_FAILED', failure: failureMessage(failure) });
    }
  }

  #begin(operation: Pick<FakeOperation, 'id' | 'vmId'> & Partial<FakeOperation>): object {
    if (this.operations.has(operation.id)) return {};
    const whole: FakeOperation = {
      events: [],
      dataPaths: [],
      ended: false,
      concluded: undefined,
      cancel: new AbortController(),
      ...operation,
    };
    this.operations.set(operation.id, whole);
    void this.#tellStory(whole);
    return {};
  }

  #find(id: string): FakeOperation {
    const operation = this.operations.get(id);
    if (!operation) throw CommonErrors.OPERATION_NOT_FOUND({ operationId: id });
    return operation;
  }

  #tell(): void {
    for (const listener of this.#changed) listener();
  }

  async *#watch(id: string, after: number, signal: AbortSignal): AsyncGenerator<WatchOperationResponse> {
    for (let at = after; ;) {
      const operation = this.#find(id);
      while (at < operation.events.length) {
        const event = operation.events[at] as WatchOperationResponse;
        at += 1;
        yield event;
        if (event.result) return;
      }
      if (signal.aborted) return;
      let wake = () => {};
      await new Promise<void>((resolve) => {
        wake = resolve;
        this.#changed.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
      this.#changed.delete(wake);
    }
  }

  #service<S>(file: string, name: string, handlers: ServiceHandlers<S>): void {
    serve<S>(
      this.#server,
      loadService(`tidemark/plugin/v1/${file}.proto`, `tidemark.plugin.v1.${name}`).service,
      handlers,
      serveOptions('plugin'),
    );
  }

  #serve(): void {
    const roles = ['host'] as const;
    const targets = [{ id: 'target-1', name: 'fast', dataCenterId: 'dc', freeBytes: 5, detail: '' }];
    this.#service<IdentityServiceDefinition>('identity_service', 'IdentityService', { GetPluginInfo: { roles, unary: async () => ({}) } });
    this.#service<PlatformServiceDefinition>('platform_service', 'PlatformService', {
      InspectPlatform: { roles, unary: async ({ url }) => ({ url, caFingerprint: 'AA:BB', caSubject: 'CN=engine' }) },
      PutPlatform: {
        roles,
        unary: async (request) => {
          const platform = { platformId: request.platformId, name: request.name, url: request.url, username: request.username };
          for (const vm of this.vms) vm.platformId = request.platformId;
          this.#platforms = [platform];
          return { platform };
        },
      },
      ListPlatforms: { roles, unary: async () => ({ platforms: this.#platforms }) },
      RemovePlatform: {
        roles,
        unary: async () => {
          this.#platforms = [];
          return {};
        },
      },
      TestPlatform: { roles, unary: async () => ({ findings: [{ check: 'login', passed: true, message: 'ok' }] }) },
      ListObservedCertificates: { roles, unary: async () => ({ certificates: [] }) },
    });
    this.#service<InventoryServiceDefinition>('inventory_service', 'InventoryService', {
      ListVms: {
        roles,
        // One VM a page, so that paging is always walked.
        unary: async ({ pageToken }) => {
          const at = Number(pageToken || 0);
          const vms = this.#platforms.length > 0 ? this.vms.slice(at, at + 1) : [];
          return { vms, nextPageToken: at + 1 < this.vms.length && vms.length > 0 ? String(at + 1) : '' };
        },
      },
      GetVm: { roles, unary: async ({ vmId }) => ({ vm: this.vms.find((vm) => vm.vmId === vmId) ?? null }) },
      ListTargets: { roles, unary: async () => ({ clusters: targets, storageDomains: targets, vnicProfiles: targets, hosts: targets }) },
      WatchInventory: {
        roles,
        serverStream: async function* (this: void) {
          yield { idle: {} };
        },
      },
      RescanPlatform: { roles, unary: async () => ({ vmCount: this.vms.length }) },
    });
    const watch = this.#watch.bind(this);
    this.#service<ProtectionServiceDefinition>('protection_service', 'ProtectionService', {
      Preflight: {
        roles,
        unary: async ({ vms }) => ({
          verdicts: vms.map((vm) => ({ ...vm, canBackUp: true, ...this.verdicts.get(vm.vmId) })),
        }),
      },
      StartBackup: {
        roles,
        unary: async (request) => this.#begin({ id: request.operationId, vmId: request.vm?.vmId ?? '', backup: request }),
      },
      ConcludeBackup: {
        roles,
        unary: async ({ operationId, committed }) => {
          this.#find(operationId).concluded = committed;
          return {};
        },
      },
      StartRestore: { roles, unary: async (request) => this.#begin({ id: request.operationId, vmId: 'restored', restore: request }) },
      WatchOperation: {
        roles,
        serverStream: (request, context) => watch(request.operationId, Number(request.afterSequence), context.signal),
      },
      CancelOperation: {
        roles,
        unary: async ({ operationId }) => {
          this.#find(operationId).cancel.abort();
          return {};
        },
      },
      ChangeDataPath: {
        roles,
        unary: async ({ operationId, dataPath }) => {
          const operation = this.#find(operationId);
          if (operation.ended) throw CommonErrors.OPERATION_NOT_FOUND({ operationId });
          if (dataPath) operation.dataPaths.push(dataPath);
          return {};
        },
      },
      ListOperations: { roles, unary: async () => ({}) },
    });
    this.#service<WorkerFleetServiceDefinition>(
      'worker_fleet_service',
      'WorkerFleetService',
      this.fleet.handlers((id, worker) => this.#begin({ id, vmId: 'worker', worker })),
    );
    this.#service<JanitorServiceDefinition>('janitor_service', 'JanitorService', {
      GetJanitorReport: { roles, unary: async () => ({ leftovers: [] }) },
      Sweep: { roles, unary: async () => ({ leftovers: [] }) },
    });
  }
}
