import os from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { CommonErrors } from '../../common/errors/common-errors';
import type { IdentityMaterial } from '../../common/tls/identity';
import type { MoverAddress } from '../mover-client/dial-mover';
import { errorFromMessage } from '../errors/error-message';
import { WorkerErrors } from '../errors/worker-errors';
import type {
  AddressNotice,
  ConcludedBackup,
  IdentityNotice,
  LaneReply,
  LaneRequest,
  LaneStep,
  OpenBackup,
  OpenRestore,
  OpenedBackup,
  OpenedRestore,
  RunBackup,
  RunRestore,
  SubtractMapped,
} from './lane-messages';

/** A lane as the main thread sees it. */
export interface Lane {
  openBackup(open: OpenBackup): Promise<OpenedBackup>;
  openRestore(open: OpenRestore): Promise<OpenedRestore>;
  /** Backup: takes what the mover has out of the plan; the number of blocks it has. */
  subtractMapped(subtract: SubtractMapped): Promise<number>;
  run(run: RunBackup | RunRestore): Promise<void>;
  /** Its mover is another one from now on. Without effect on a lane that was not opened. */
  changeAddress(address: MoverAddress): void;
  /** Backup: commits the disk. */
  commit(): Promise<ConcludedBackup>;
  /** Restore: flushes the target. */
  flush(): Promise<void>;
  /** Ends it; resolves when its sockets and files are closed, or its thread was ended because it did not react. */
  close(): Promise<void>;
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, { resolve(value: unknown): void; reject(error: unknown): void }>;
}

/** A thread that hangs in the kernel (a dead NFS mount) cannot be asked to stop. */
const closePatienceMs = 8_000;

/**
 * The lane threads of this worker: as many as told, however many tasks run, and kept. Each task has a lane in each, so that
 * one task alone uses all cores and many tasks share the same memory.
 */
export class LanePool {
  private readonly threads: (Thread | undefined)[];
  private nextLane = 0;
  private nextRequest = 0;
  private stopped = false;
  private identity: IdentityMaterial | undefined;

  constructor(readonly size = defaultThreads()) {
    this.threads = Array.from({ length: size }, () => undefined);
  }

  /** Starts the threads ahead of the first task; a thread that ends is replaced when it is needed. */
  start(): void {
    for (let index = 0; index < this.size; index += 1) this.threads[index] ??= this.startThread(index);
  }

  /** Lanes use it for connections from now on, also those of tasks that run. */
  useIdentity(identity: IdentityMaterial): void {
    this.identity = identity;
    for (const thread of this.threads) thread?.worker.postMessage({ step: 'identity', identity } satisfies IdentityNotice);
  }

  /** One lane in each thread. */
  createLanes(): Lane[] {
    return this.threads.map((_, index) => this.createLane(index));
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.threads.map(async (thread) => thread?.worker.terminate()));
  }

  private createLane(index: number): Lane {
    const lane = this.nextLane++;
    let used = false;
    const ask = (step: LaneStep) => {
      used = true;
      return this.ask(index, { ...step, lane });
    };
    return {
      openBackup: (open) => ask({ step: 'open', open }) as Promise<OpenedBackup>,
      openRestore: (open) => ask({ step: 'open', open }) as Promise<OpenedRestore>,
      subtractMapped: (subtract) => ask({ step: 'subtract', subtract }) as Promise<number>,
      run: (run) => ask({ step: 'run', run }) as Promise<void>,
      changeAddress: (address) => {
        if (used) this.threads[index]?.worker.postMessage({ step: 'address', lane, address } satisfies AddressNotice);
      },
      commit: () => ask({ step: 'conclude' }) as Promise<ConcludedBackup>,
      flush: () => ask({ step: 'conclude' }) as Promise<void>,
      close: () => (used ? this.close(index, lane) : Promise.resolve()),
    };
  }

  private async close(index: number, lane: number): Promise<void> {
    const thread = this.threads[index];
    if (!thread) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => (timer = setTimeout(() => resolve('late'), closePatienceMs)));
    // A lane that is gone with its thread is closed too.
    const closed = this.ask(index, { step: 'close', lane }).catch(() => undefined);
    if ((await Promise.race([closed, late])) === 'late') {
      this.drop(index, thread, 'it did not react');
      void thread.worker.terminate();
    }
    clearTimeout(timer);
  }

  private ask(index: number, message: LaneStep & { lane: number }): Promise<unknown> {
    if (this.stopped) return Promise.reject(CommonErrors.CANCELLED({ what: 'the transfer' }));
    const thread = (this.threads[index] ??= this.startThread(index));
    const request: LaneRequest = { ...message, request: this.nextRequest++ };
    return new Promise((resolve, reject) => {
      thread.waiting.set(request.request, { resolve, reject });
      thread.worker.postMessage(request);
    });
  }

  private startThread(index: number): Thread {
    // A small nursery: what little garbage there is has megabytes of buffers tied to it, which only frequent small collections free in time.
    const resourceLimits = { maxYoungGenerationSizeMb: 3 };
    const worker = new Worker(path.join(__dirname, 'lane-thread.js'), { name: `lane-${index}`, resourceLimits });
    const thread: Thread = { worker, waiting: new Map() };
    if (this.identity) worker.postMessage({ step: 'identity', identity: this.identity } satisfies IdentityNotice);
    worker.on('message', (reply: LaneReply) => {
      const waiting = thread.waiting.get(reply.request);
      thread.waiting.delete(reply.request);
      if ('error' in reply) waiting?.reject(errorFromMessage(reply.error));
      else waiting?.resolve(reply.value);
    });
    worker.on('error', (error) => this.drop(index, thread, error instanceof Error ? error.message : String(error)));
    worker.on('exit', (code) => this.drop(index, thread, `exit code ${code}`));
    return thread;
  }

  /** Forgets a thread; the next lane starts another. */
  private drop(index: number, thread: Thread, reason: string): void {
    if (this.threads[index] === thread) this.threads[index] = undefined;
    const error = this.stopped ? CommonErrors.CANCELLED({ what: 'the transfer' }) : WorkerErrors.LANE_CRASHED({ reason });
    for (const waiting of thread.waiting.values()) waiting.reject(error);
    thread.waiting.clear();
  }
}

/** One per core, at least 2 so that one waits while the other works, and no more than feed one mover: each takes some 30 MiB. */
function defaultThreads(): number {
  return Math.min(4, Math.max(2, os.availableParallelism()));
}
