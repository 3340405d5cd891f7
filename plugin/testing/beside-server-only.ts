import type { PlacementPolicy, WorkerSupply } from '../workers/ports';

/** Product defaults §5; what a platform has unless its rules say otherwise. */
export const defaultPlacementPolicy: PlacementPolicy = {
  allowOtherClusters: true,
  allowBesideServer: true,
  tasksPerHost: 2,
  tasksPerStorageDomain: 4,
  tasksPerPlatform: 16,
};

/** The supply of a plug-in without worker VMs: tasks go to whoever has dialled in. */
export const workersBesideServerOnly: WorkerSupply = {
  policy: () => defaultPlacementPolicy,
  want: () => ({ kind: 'none', code: 'worker-vms-off', message: 'this plug-in deploys no worker VMs' }),
  admits: () => true,
  vmOf: () => undefined,
  onChanged: () => () => undefined,
};
