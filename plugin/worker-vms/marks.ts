/** How worker VMs and their disks are told from everything else in an engine. */
import type { Tag } from '../engine/tags';

/** Tags of every worker VM; the second one is what others look for. */
export const workerTags = ['tidemark', 'tidemark-worker'] as const;

const commentStart = 'tidemark-worker ';

export interface WorkerMark {
  readonly workerId: string;
  /** Instance id of the plug-in that made the VM. */
  readonly madeBy: string;
  /** The operation that made it: a worker's old VM and its successor differ by it. */
  readonly operationId: string;
}

/** The VM's comment. Proves whose it is; journalled and compared exactly. */
export function workerComment({ workerId, madeBy, operationId }: WorkerMark): string {
  return `${commentStart}worker=${workerId} plugin=${madeBy} operation=${operationId}`;
}

/** Undefined when the comment is not that of a worker VM, or was edited. */
export function parseWorkerComment(comment: string): WorkerMark | undefined {
  const found = /^tidemark-worker worker=(\S+) plugin=(\S+) operation=(\S+)$/.exec(comment);
  return found ? { workerId: found[1] ?? '', madeBy: found[2] ?? '', operationId: found[3] ?? '' } : undefined;
}

/** True for a VM that is a worker, of this plug-in or another: it is never backed up. */
export function isWorkerVm(vm: { readonly comment: string; readonly tags: readonly Tag[] | undefined }): boolean {
  return vm.comment.startsWith(commentStart) || (vm.tags ?? []).some((tag) => tag.name === 'tidemark-worker');
}

export const imageDiskPrefix = 'tidemark-worker-image-';

export interface ImageDiskMark {
  readonly version: string;
  readonly sha256: string;
  readonly madeBy: string;
  readonly state: 'uploading' | 'complete';
}

export function imageDiskName(version: string): string {
  return `${imageDiskPrefix}${version}`;
}

/** Description of a disk that holds the worker image; only `complete` ones are used. */
export function imageDiskDescription({ version, sha256, madeBy, state }: ImageDiskMark): string {
  return `tidemark worker image version=${version} sha256=${sha256} plugin=${madeBy} state=${state}`;
}

export function parseImageDiskDescription(description: string): ImageDiskMark | undefined {
  const found = /^tidemark worker image version=(\S+) sha256=([0-9a-f]{64}) plugin=(\S+) state=(uploading|complete)$/.exec(description);
  if (!found) return undefined;
  const [, version = '', sha256 = '', madeBy = '', state] = found;
  return { version, sha256, madeBy, state: state === 'complete' ? 'complete' : 'uploading' };
}
