/** Threads that decrypt, decompress and digest what a verification read. Memory goes to a thread and comes back; nothing is copied. */
import os from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { MaintenanceErrors } from '../../errors/maintenance-errors';
import { DIGEST_BYTES } from '../../format/block';
import type { DataKeys } from '../../format/document-cipher';
import type { CompareReply, CompareRequest, ThreadStart } from './compare-messages';
import type { Compared, Comparer, Piece } from './comparer';

interface Waiting {
  resolve(compared: Compared): void;
  reject(error: unknown): void;
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiting>;
}

export class CompareThreads implements Comparer {
  private readonly threads: Thread[] = [];
  private nextRequest = 0;
  private closed = false;

  /** `keys`: of an encrypted repository. */
  constructor(
    private readonly digestKey: Buffer,
    private readonly keys: Pick<DataKeys, 'find'> | undefined,
    private readonly size = defaultThreads(),
  ) {}

  compare({ packId, cipher, entries, start, memory, length }: Piece): Promise<Compared> {
    const thread = this.idlest();
    const key = cipher && this.keys?.find(cipher.keyId);
    const request: CompareRequest = {
      request: this.nextRequest++,
      memory: memory.buffer as ArrayBuffer,
      length,
      start,
      packId,
      dataKey: cipher && key && { keyId: cipher.keyId, key: Uint8Array.from(key) },
      entries: entries.map(({ digest: _, ...entry }) => entry),
      digests: digestsOf(entries),
    };
    return new Promise((resolve, reject) => {
      thread.waiting.set(request.request, { resolve, reject });
      thread.worker.postMessage(request, [request.memory]);
    });
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all(this.threads.splice(0).map(({ worker }) => worker.terminate()));
  }

  private idlest(): Thread {
    if (this.threads.length < this.size && this.threads.every(({ waiting }) => waiting.size > 0)) this.threads.push(this.start());
    return this.threads.reduce((best, thread) => (thread.waiting.size < best.waiting.size ? thread : best));
  }

  private start(): Thread {
    const worker = new Worker(path.join(__dirname, 'compare-thread.js'), {
      name: 'verify',
      workerData: { digestKey: Uint8Array.from(this.digestKey) } satisfies ThreadStart,
      // A small nursery: each block leaves a buffer of its size behind, which only frequent small collections free in time.
      resourceLimits: { maxYoungGenerationSizeMb: 3 },
    });
    const thread: Thread = { worker, waiting: new Map() };
    worker.on('message', (reply: CompareReply) => {
      const waiting = thread.waiting.get(reply.request);
      thread.waiting.delete(reply.request);
      if ('failure' in reply) waiting?.reject(MaintenanceErrors.VERIFICATION_CRASHED({ reason: reply.failure }));
      else waiting?.resolve({ problems: reply.problems, memory: Buffer.from(reply.memory) });
    });
    worker.on('error', (error) => this.drop(thread, error instanceof Error ? error.message : String(error)));
    worker.on('exit', (code) => this.drop(thread, this.closed ? 'it was closed' : `exit code ${code}`));
    return thread;
  }

  /** What it had to do fails, and with that the run. */
  private drop(thread: Thread, reason: string): void {
    const at = this.threads.indexOf(thread);
    if (at >= 0) this.threads.splice(at, 1);
    for (const waiting of thread.waiting.values()) waiting.reject(MaintenanceErrors.VERIFICATION_CRASHED({ reason }));
    thread.waiting.clear();
  }
}

/** In memory of its own: what is posted is copied with all that shares its memory. */
function digestsOf(entries: Piece['entries']): Uint8Array {
  const digests = new Uint8Array(entries.length * DIGEST_BYTES);
  entries.forEach(({ digest }, i) => digests.set(digest, i * DIGEST_BYTES));
  return digests;
}

/** One per core; more than four read no faster than a store gives. */
function defaultThreads(): number {
  return Math.min(4, os.availableParallelism());
}
