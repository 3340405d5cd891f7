/** Wires operations, journal, workers, janitor and flows, and hands the rest of the process its {@link ProtectionPart}. */
import path from 'node:path';
import { instanceCachingFactory } from 'tsyringe';
import type { DependencyContainer, InjectionToken } from 'tsyringe';
import type { Service } from '../../common/lifecycle/lifecycle';
import type { Logger } from '../../common/log/logger';
import type { PluginConfig } from '../config';
import { serveJanitor } from '../grpc/janitor-service';
import { preflightHandler } from '../grpc/preflight-handler';
import { serveProtection } from '../grpc/protection-service';
import { serveWorkerFleet } from '../grpc/worker-fleet-service';
import { serveWorkerEnrolment, serveWorkers } from '../grpc/worker-services';
import type { WorkerCertificates } from '../grpc/worker-services';
import { readZeroRanges } from '../image-service/read-zero-ranges';
import { Cleaner } from '../janitor/cleaner';
import { Janitor } from '../janitor/janitor';
import { DiskJournalFile } from '../journal/journal-file';
import { Journal } from '../journal/journal';
import type { JournalEntry } from '../journal/records';
import { systemClock } from '../operations/clock';
import { OperationRegistry } from '../operations/operation-registry';
import { preflightVm } from '../preflight/preflight';
import { tokens } from '../tokens';
import type { Engines, EventReporter, ProtectionPart } from '../tokens';
import { ConnectedFleet } from '../workers/connected-fleet';
import { Dispatcher } from '../workers/dispatcher';
import type { WorkerSupply } from '../workers/ports';
import { registerWorkerVms, workerVmTokens } from '../worker-vms/register';
import { AttachedDiskTasks } from './attached-disk-task';
import { AttachmentRounds } from './attachment-rounds';
import { BackupFlow } from './backup-flow';
import { BackupReading } from './backup-reading';
import { BackupRounds } from './backup-rounds';
import { DiskTasks } from './disk-task';
import { DiskTransfers } from './disk-transfer';
import { EngineBackups } from './engine-backup';
import { Patience } from './patience';
import type { Preflight } from './preflight-port';
import { Protection } from './protection';
import { RestoreFlow } from './restore-flow';
import { RestoredDisks } from './restored-disks';
import { SnapshotExtents } from './snapshot-extents';
import { VmSnapshots } from './vm-snapshots';
import { WorkerAttachments } from './worker-attachments';

const own = {
  journal: Symbol('journal') as InjectionToken<Journal>,
  registry: Symbol('registry') as InjectionToken<OperationRegistry>,
  fleet: Symbol('fleet') as InjectionToken<ConnectedFleet>,
  supply: Symbol('supply') as InjectionToken<WorkerSupply>,
  dispatcher: Symbol('dispatcher') as InjectionToken<Dispatcher>,
  patience: Symbol('patience') as InjectionToken<Patience>,
  cleaner: Symbol('cleaner') as InjectionToken<Cleaner>,
  transfers: Symbol('transfers') as InjectionToken<DiskTransfers>,
  diskTasks: Symbol('diskTasks') as InjectionToken<DiskTasks>,
  janitor: Symbol('janitor') as InjectionToken<Janitor>,
  protection: Symbol('protectionUseCases') as InjectionToken<Protection>,
} as const;

/** Below the ten seconds that the process gives each service. */
const stopMs = 8_000;

export function registerProtection(container: DependencyContainer): void {
  const once = <T>(token: InjectionToken<T>, make: (c: DependencyContainer) => T) =>
    container.register<T>(token, { useFactory: instanceCachingFactory(make) });
  const engines = (c: DependencyContainer) => c.resolve<Engines>(tokens.engines);
  const logger = (c: DependencyContainer) => c.resolve<Logger>(tokens.logger);
  once(own.journal, (c) => {
    const { dataFolder } = c.resolve<PluginConfig>(tokens.config);
    return new Journal(new DiskJournalFile(path.join(dataFolder, 'journal', 'intents.jsonl')), logger(c));
  });
  once(own.registry, (c) => new OperationRegistry(c.resolve(own.journal), systemClock, logger(c)));
  once(own.fleet, (c) => new ConnectedFleet(logger(c)));
  registerWorkerVms(container, own);
  once(own.supply, (c) => c.resolve(workerVmTokens.vms).supply);
  once(own.dispatcher, (c) => new Dispatcher(c.resolve(own.fleet), c.resolve(own.supply), systemClock));
  once(own.patience, () => new Patience(systemClock));
  once(own.cleaner, (c) => {
    const store = c.resolve(workerVmTokens.store);
    const isOwned = (entry: JournalEntry) => store.hasVm(entry.platformId, entry.objectId ?? '');
    return new Cleaner(engines(c), c.resolve(own.journal), c.resolve(own.patience), logger(c), isOwned);
  });
  once(own.transfers, (c) => new DiskTransfers(c.resolve(own.journal), c.resolve(own.patience)));
  once(own.diskTasks, (c) => {
    return new DiskTasks(c.resolve(own.transfers), c.resolve(own.dispatcher), c.resolve(own.cleaner), c.resolve(own.patience));
  });
  once(
    own.janitor,
    (c) =>
      new Janitor(
        c.resolve(own.journal),
        c.resolve(own.registry),
        c.resolve(own.cleaner),
        c.resolve<EventReporter>(tokens.events),
        systemClock,
        logger(c),
      ),
  );
  once(own.protection, makeProtection);
  once<ProtectionPart>(tokens.protection, makePart);
}

function makeProtection(c: DependencyContainer): Protection {
  const engines = c.resolve<Engines>(tokens.engines);
  const logger = c.resolve<Logger>(tokens.logger);
  const [journal, patience, cleaner, tasks, dispatcher] = [
    c.resolve(own.journal),
    c.resolve(own.patience),
    c.resolve(own.cleaner),
    c.resolve(own.diskTasks),
    c.resolve(own.dispatcher),
  ];
  const preflight = {
    check: (vm: { platformId: string; vmId: string }, options: Parameters<Preflight['check']>[1]) =>
      preflightVm(engines.of(vm.platformId), vm.vmId, options.base, {
        requireConsistency: options.requireConsistency,
        byAttachment: options.byAttachment,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      }),
  };
  const attached = new AttachedDiskTasks(new WorkerAttachments(journal, patience), dispatcher, cleaner, patience);
  const rounds = new BackupRounds(new EngineBackups(journal, patience), tasks, cleaner, journal, patience);
  const extents = new SnapshotExtents(c.resolve(own.transfers), readZeroRanges, cleaner);
  const attachments = new AttachmentRounds(new VmSnapshots(journal, patience), extents, attached, patience);
  const reading = new BackupReading(dispatcher, rounds, attachments, cleaner, patience);
  const backups = new BackupFlow(engines, preflight, reading, cleaner, journal, patience, logger);
  const disks = new RestoredDisks(tasks, attached, cleaner, journal, patience);
  const restores = new RestoreFlow(engines, dispatcher, tasks, disks, cleaner, journal, patience, logger);
  return new Protection(c.resolve(own.registry), engines, backups, restores, systemClock, c.resolve(own.fleet));
}

function makePart(c: DependencyContainer): ProtectionPart {
  const [journal, registry, fleet, janitor] = [
    c.resolve(own.journal),
    c.resolve(own.registry),
    c.resolve(own.fleet),
    c.resolve(own.janitor),
  ];
  const [workerStore, workerVms] = [c.resolve(workerVmTokens.store), c.resolve(workerVmTokens.vms)];
  const certificates = c.resolve<WorkerCertificates>(tokens.workerCertificates);
  let stopping = false;
  const service: Service = {
    name: 'protection',
    start: async () => {
      await journal.open();
      await registry.restore();
      // Before the janitor: whose VM an entry stands for is in there.
      await workerStore.open();
      janitor.start();
      workerVms.keeper.start();
    },
    stop: async () => {
      stopping = true;
      await workerVms.keeper.stop();
      await registry.stop(stopMs);
      await janitor.stop();
      fleet.stop();
      await journal.close();
    },
  };
  return {
    services: [service],
    serve: (server, options) => {
      serveProtection(server, c.resolve(own.protection), preflightHandler(c.resolve<Engines>(tokens.engines)), options);
      serveWorkerFleet(server, workerVms, options);
      serveJanitor(server, janitor, options);
      serveWorkers(
        server,
        fleet,
        certificates,
        { isStopping: () => stopping, isRemoved: (workerId) => workerVms.isRemoved(workerId) },
        options,
      );
    },
    serveEnrolment: (server, options) => serveWorkerEnrolment(server, certificates, options, (token) => workerVms.tokenRefused(token)),
    workers: fleet,
    runningOperationIds: () => registry.runningIds(),
    platformInUse: (platformId) => {
      if (registry.usesPlatform(platformId)) return 'backups, restores or work on workers run there';
      const workers = workerVms.platformInUse(platformId);
      if (workers !== undefined) return workers;
      return janitor.hasPending(platformId) ? 'what earlier runs left there is being cleaned up' : undefined;
    },
  };
}
