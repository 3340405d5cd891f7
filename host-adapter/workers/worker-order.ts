import type { WorkerSettings } from './worker-settings';

interface OnWorker {
  readonly workerId: string;
}

/** What is to become of a worker VM; ids only, everything resolved. See tidemark.plugin.v1.WorkerFleetService. */
export type WorkerAction =
  | ({ readonly name: 'deploy'; readonly platformId: string; readonly clusterId: string; readonly settings: WorkerSettings } & OnWorker)
  | ({ readonly name: 'edit'; readonly settings: WorkerSettings; readonly force: boolean } & OnWorker)
  | ({ readonly name: 'redeploy' | 'remove' | 'stop'; readonly force: boolean } & OnWorker)
  | ({ readonly name: 'test' | 'start' } & OnWorker)
  | { readonly name: 'remove-orphan'; readonly platformId: string; readonly vmId: string };

export type WorkerActionName = WorkerAction['name'];

export interface WorkerOrder {
  readonly kind: 'worker';
  readonly pluginId: string;
  /** Who asked. */
  readonly requestedBy: string;
  readonly action: WorkerAction;
}
