/** Wires the life of worker VMs. */
import path from 'node:path';
import { instanceCachingFactory } from 'tsyringe';
import type { DependencyContainer, InjectionToken } from 'tsyringe';
import type { Logger } from '../../common/log/logger';
import type { PluginConfig } from '../config';
import type { Cleaner } from '../janitor/cleaner';
import type { Journal } from '../journal/journal';
import type { OperationRegistry } from '../operations/operation-registry';
import type { Patience } from '../protection/patience';
import { tokens } from '../tokens';
import type { Engines, EventReporter, WorkerPlace } from '../tokens';
import type { ConnectedFleet } from '../workers/connected-fleet';
import { BootDisks } from './boot-disk';
import type { WorkerHost } from './host-port';
import { ImageDisks } from './image-disk';
import { uploadImage } from './image-upload';
import { VmMaker } from './vm-maker';
import { WorkerImages, defaultImageFolder } from './worker-image';
import { WorkerOperations } from './worker-operations';
import { WorkerStarter } from './worker-starter';
import { DiskStoreFile, WorkerStore } from './worker-store';
import { WorkerVms } from './worker-vms';

export const workerVmTokens = {
  store: Symbol('workerStore') as InjectionToken<WorkerStore>,
  vms: Symbol('workerVms') as InjectionToken<WorkerVms>,
} as const;

/** What protection has made already. */
export interface SharedTokens {
  readonly journal: InjectionToken<Journal>;
  readonly registry: InjectionToken<OperationRegistry>;
  readonly patience: InjectionToken<Patience>;
  readonly cleaner: InjectionToken<Cleaner>;
  readonly fleet: InjectionToken<ConnectedFleet>;
}

export function registerWorkerVms(container: DependencyContainer, shared: SharedTokens): void {
  const once = <T>(token: InjectionToken<T>, make: (c: DependencyContainer) => T) =>
    container.register<T>(token, { useFactory: instanceCachingFactory(make) });
  once(workerVmTokens.store, (c) => {
    const { dataFolder } = c.resolve<PluginConfig>(tokens.config);
    return new WorkerStore(new DiskStoreFile(path.join(dataFolder, 'worker-vms.json')));
  });
  once(workerVmTokens.vms, (c) => {
    const { workerImage, workerVms: limits } = c.resolve<PluginConfig>(tokens.config);
    const logger = c.resolve<Logger>(tokens.logger);
    const { instanceId: madeBy, endpoints } = c.resolve<WorkerPlace>(tokens.workerPlace);
    const host = c.resolve<WorkerHost>(tokens.workerHost);
    const [journal, patience, cleaner, workers] = [
      c.resolve(shared.journal),
      c.resolve(shared.patience),
      c.resolve(shared.cleaner),
      c.resolve(shared.fleet),
    ];
    const disks = new BootDisks(new ImageDisks(journal, patience, cleaner, uploadImage), journal, patience, madeBy, logger);
    const operations = new WorkerOperations(
      {
        engines: c.resolve<Engines>(tokens.engines),
        store: c.resolve(workerVmTokens.store),
        images: new WorkerImages(workerImage.folder ?? defaultImageFolder()),
        maker: new VmMaker(disks, journal, patience, logger),
        starter: new WorkerStarter(host, workers, patience, limits, logger),
        events: c.resolve<EventReporter>(tokens.events),
        ...{ disks, workers, host, cleaner, journal, patience, limits, logger, madeBy, endpoints },
      },
      c.resolve(shared.registry),
    );
    return new WorkerVms(operations, () => workers.list());
  });
}
