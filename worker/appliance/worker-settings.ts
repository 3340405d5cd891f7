import type { ApplianceSeed } from '../../common/appliance/seed';
import { loadConfig } from '../../common/config/load-config';
import { workerConfigSchema } from '../config';
import type { WorkerConfig } from '../config';

/** The worker's configuration in a worker VM: everything from the seed; the token stays in memory. */
export function workerSettings(
  seed: ApplianceSeed,
  machine: { readonly dataFolder: string; readonly addresses: readonly string[]; readonly imageVersion: string },
): WorkerConfig {
  return loadConfig(workerConfigSchema, {
    overrides: {
      dataFolder: machine.dataFolder,
      plugin: { ...seed.plugin },
      taskSlots: seed.taskSlots,
      platformId: seed.platformId,
      clusterId: seed.clusterId,
      addresses: [...machine.addresses],
      imageVersion: machine.imageVersion,
      logLevel: 'warn',
    },
  });
}
