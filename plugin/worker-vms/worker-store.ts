/**
 * Deployed workers with their settings and state, and the rules per platform: one JSON file `worker-vms.json` in the data folder, replaced
 * whole (temporary file, fsync, rename). A worker is ours from the moment it is in here; what is made before that is the journal's. No
 * secrets.
 */
import fs from 'node:fs';
import { z } from 'zod';
import { durableWrite } from '../../common/tls/durable-write';
import type { FailureDetail } from '../../proto/gen/tidemark/common/v1/FailureDetail';
import type { SelfTest } from '../../proto/gen/tidemark/common/v1/SelfTest';
import { JournalErrors } from '../journal/journal-errors';
import { WorkerErrors } from '../workers/worker-errors';
import { defaultPolicy, fleetPolicySchema } from './policy';
import type { FleetPolicy } from './policy';
import { workerSettingsSchema } from './settings';
import { WorkerVmErrors } from './worker-vm-errors';

/**
 * | phase | VM | next |
 * | --- | --- | --- |
 * | `stopped` | down | `starting` when work comes |
 * | `starting` | started, not yet tested | `ready`, `failed` |
 * | `ready` | runs, tested | `stopping`, `lost` |
 * | `stopping` | takes no new tasks, is shut down when they have ended | `stopped`, `ready` when taken back |
 * | `lost` | should run and does not, or is gone | `ready`, `failed` after too many tries |
 * | `failed` | down; `problem` says why | `starting` when work comes |
 * | `removing` | is being removed | gone |
 */
export const workerPhases = ['stopped', 'starting', 'ready', 'stopping', 'lost', 'failed', 'removing'] as const;
export type WorkerPhase = (typeof workerPhases)[number];

const storedWorkerSchema = z.object({
  workerId: z.string().min(1),
  platformId: z.string().min(1),
  clusterId: z.string().min(1),
  clusterName: z.string(),
  dataCenterId: z.string(),
  name: z.string().min(1),
  settings: workerSettingsSchema,
  requestedBy: z.string(),
  createdAt: z.number(),
  vmId: z.string().min(1),
  imageVersion: z.string(),
  phase: z.enum(workerPhases),
  /** An administrator wants it to take no tasks. */
  drained: z.boolean(),
  /** Tries that failed since it was ready last, and when the next one may be made. */
  failures: z.int(),
  retryAt: z.number(),
  problem: z.custom<FailureDetail>((value) => typeof value === 'object' && value !== null).nullable(),
  selfTest: z.custom<SelfTest>((value) => typeof value === 'object' && value !== null).nullable(),
  /** VMs that it had before, still to be removed. */
  formerVmIds: z.array(z.string()),
});

const fileSchema = z.object({
  version: z.literal(1),
  workers: z.array(storedWorkerSchema),
  policies: z.array(fleetPolicySchema),
  /** Workers that are gone for good, until their last certificate has run out. */
  removed: z.array(z.object({ workerId: z.string().min(1), until: z.number() })).default([]),
});

/** A worker's certificate lives for seven days; a day more for clocks. */
const removedMs = 8 * 86_400_000;

export type StoredWorker = Readonly<z.infer<typeof storedWorkerSchema>>;

/** Where the list lies. */
export interface StoreFile {
  readonly name: string;
  /** Undefined when there is none yet. */
  read(): Promise<string | undefined>;
  /** Durable and whole when it resolves. */
  replace(text: string): Promise<void>;
}

export class DiskStoreFile implements StoreFile {
  constructor(readonly name: string) {}

  async read(): Promise<string | undefined> {
    try {
      return await fs.promises.readFile(this.name, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw WorkerVmErrors.WORKER_STORE_DAMAGED({ file: this.name, problem: 'it cannot be read' }, { cause: error });
    }
  }

  async replace(text: string): Promise<void> {
    try {
      durableWrite(this.name, text, 0o600);
    } catch (error) {
      throw JournalErrors.JOURNAL_WRITE_FAILED({ problem: (error as NodeJS.ErrnoException).code ?? 'unknown' }, { cause: error });
    }
  }
}

export class WorkerStore {
  readonly #workers = new Map<string, StoredWorker>();
  readonly #policies = new Map<string, FleetPolicy>();
  readonly #removed = new Map<string, number>();
  readonly #listeners = new Set<() => void>();
  #writing: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly file: StoreFile,
    private readonly now: () => number = Date.now,
  ) {}

  /** Throws WORKER_STORE_DAMAGED: without the list every worker would look like somebody else's. */
  async open(): Promise<void> {
    const text = await this.file.read();
    if (text === undefined) return;
    const content = fileSchema.safeParse(parseJson(text));
    if (!content.success) {
      throw WorkerVmErrors.WORKER_STORE_DAMAGED({ file: this.file.name, problem: 'its content is damaged' }, { cause: content.error });
    }
    for (const worker of content.data.workers) this.#workers.set(worker.workerId, worker);
    for (const policy of content.data.policies) this.#policies.set(policy.platformId, policy);
    for (const { workerId, until } of content.data.removed) this.#removed.set(workerId, until);
  }

  workers(): StoredWorker[] {
    return [...this.#workers.values()];
  }

  find(workerId: string): StoredWorker | undefined {
    return this.#workers.get(workerId);
  }

  /** Throws WORKER_NOT_FOUND. */
  get(workerId: string): StoredWorker {
    const worker = this.#workers.get(workerId);
    if (!worker) throw WorkerErrors.WORKER_NOT_FOUND({ workerId });
    return worker;
  }

  inCluster(platformId: string, clusterId: string): StoredWorker[] {
    return this.workers().filter((worker) => worker.platformId === platformId && worker.clusterId === clusterId);
  }

  /** The VM belongs to a worker of ours, now or until it is removed. */
  hasVm(platformId: string, vmId: string): boolean {
    return this.workers().some((one) => one.platformId === platformId && (one.vmId === vmId || one.formerVmIds.includes(vmId)));
  }

  put(worker: StoredWorker): Promise<void> {
    this.#workers.set(worker.workerId, worker);
    this.#removed.delete(worker.workerId);
    return this.#save();
  }

  /** Throws WORKER_NOT_FOUND. */
  async update(workerId: string, change: Partial<Omit<StoredWorker, 'workerId'>>): Promise<StoredWorker> {
    const worker = { ...this.get(workerId), ...change };
    await this.put(worker);
    return worker;
  }

  /** The worker is gone for good: whoever still has its certificate is refused. */
  async remove(workerId: string): Promise<void> {
    this.#workers.delete(workerId);
    this.#removed.set(workerId, this.now() + removedMs);
    await this.#save();
  }

  isRemoved(workerId: string): boolean {
    return this.#removed.has(workerId);
  }

  policy(platformId: string): FleetPolicy {
    return this.#policies.get(platformId) ?? defaultPolicy(platformId);
  }

  putPolicy(policy: FleetPolicy): Promise<void> {
    this.#policies.set(policy.platformId, policy);
    return this.#save();
  }

  onChanged(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Memory is ahead of the medium by the write alone; writes happen one after another, each with all that is known by then. */
  async #save(): Promise<void> {
    const written = this.#writing.then(() => this.file.replace(this.#text()));
    this.#writing = written.catch(() => undefined);
    for (const listener of [...this.#listeners]) listener();
    await written;
  }

  #text(): string {
    for (const [workerId, until] of this.#removed) if (until < this.now()) this.#removed.delete(workerId);
    const content: z.infer<typeof fileSchema> = {
      version: 1,
      workers: this.workers(),
      policies: [...this.#policies.values()],
      removed: [...this.#removed].map(([workerId, until]) => ({ workerId, until })),
    };
    return `${JSON.stringify(content, undefined, 1)}\n`;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The schema refuses it, with the name of the file.
    return undefined;
  }
}
