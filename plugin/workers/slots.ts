import type { Placement } from './tasks';

/**
 * How well a worker suits a task, 0 best; undefined when it may not do it. A worker in a VM of another platform has no path to the images
 * of this one; files are written only by a worker beside the server.
 */
export function slotKey(placement: Placement, worker: { readonly platformId: string; readonly clusterId: string }): number | undefined {
  if (worker.clusterId === '') return 2;
  if (placement.platformId === '' || worker.platformId !== placement.platformId) return undefined;
  return worker.clusterId === placement.clusterId ? 0 : 1;
}
