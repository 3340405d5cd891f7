/** The life of worker VMs over an engine in memory: real journal, operations, fleet, janitor, store and keeper; time runs fast. */
import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { CommonErrors } from '../../common/errors/common-errors';
import { Cleaner } from '../janitor/cleaner';
import { Janitor } from '../janitor/janitor';
import { Journal } from '../journal/journal';
import type { Clock } from '../operations/clock';
import type { Operation } from '../operations/operation';
import { OperationRegistry } from '../operations/operation-registry';
import { PlatformErrors } from '../platforms/platform-errors';
import { Patience } from '../protection/patience';
import type { ReportedEvent } from '../tokens';
import { BootDisks } from '../worker-vms/boot-disk';
import type { WorkerEngine } from '../worker-vms/engine-port';
import { ImageDisks } from '../worker-vms/image-disk';
import { uploadImage } from '../worker-vms/image-upload';
import type { ImageUploadOrder } from '../worker-vms/image-upload';
import { defaultSettings } from '../worker-vms/settings';
import type { WorkerSettings } from '../worker-vms/settings';
import { defaultWorkerVmLimits } from '../worker-vms/timing';
import type { WorkerVmLimits } from '../worker-vms/timing';
import { VmMaker } from '../worker-vms/vm-maker';
import { WorkerImages } from '../worker-vms/worker-image';
import { WorkerOperations } from '../worker-vms/worker-operations';
import { WorkerStarter } from '../worker-vms/worker-starter';
import { WorkerStore } from '../worker-vms/worker-store';
import type { StoreFile } from '../worker-vms/worker-store';
import { WorkerVms } from '../worker-vms/worker-vms';
import type { WorkerAction } from '../worker-vms/worker-vms';
import { ConnectedFleet } from '../workers/connected-fleet';
import { defaultFleetTiming } from '../workers/timing';
import { eventually } from './eventually';
import { FakeEngine } from './fake-engine';
import { FakeGuests } from './fake-guests';
import { MemoryJournalFile } from './memory-journal-file';
import { Mortal } from './mortal';
import { SteadyClock } from './steady-clock';
import { quietLogger } from './quiet-logger';

export const platformId = 'platform1';
export const clusterId = 'cluster1';
const instanceId = 'plugin-instance';

/** What outlives a process: engine, guests, data folder, image. */
export class WorkerWorld {
  readonly clock: SteadyClock;
  readonly engine: FakeEngine;
  readonly guests: FakeGuests;
  readonly journal = new MemoryJournalFile();
  storeText: string | undefined;
  readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-worker-vms-'));
  uploads = 0;
  /** Called while an upload is half through; throwing breaks it off. */
  halfway: (order: ImageUploadOrder) => void | Promise<void> = () => undefined;

  /** An empty version: no image is installed. Time runs `pace` times as fast as the wall: slower where a network is in between. */
  constructor(version = '1.0.0', pace = 1000) {
    this.clock = new SteadyClock(pace);
    this.engine = new FakeEngine(this.clock, 500);
    this.guests = new FakeGuests(this.engine);
    if (version !== '') this.putImage(version);
  }

  /** A qcow2 header is all that the plug-in looks at. */
  putImage(version: string): void {
    const image = Buffer.alloc(4096);
    image.writeUInt32BE(0x514649fb, 0);
    image.writeUInt32BE(3, 4);
    image.writeBigUInt64BE(2n ** 31n, 24);
    image.write(version, 64);
    const sha256 = createHash('sha256').update(image).digest('hex');
    fs.writeFileSync(path.join(this.folder, `tidemark-worker-${version}.qcow2`), image);
    fs.writeFileSync(path.join(this.folder, `tidemark-worker-${version}.json`), JSON.stringify({ version, sha256 }));
  }

  /** VMs and disks of ours, by name. */
  get vms(): string[] {
    return [...this.engine.vmsById.values()].map(({ vm }) => vm.name).sort();
  }

  get disks(): string[] {
    return [...this.engine.disksById.values()].map((disk) => disk.name.replace(/-system-.*/, '-system')).sort();
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface WorkerBench extends AsyncDisposable {
  readonly world: WorkerWorld;
  readonly journal: Journal;
  readonly registry: OperationRegistry;
  readonly fleet: ConnectedFleet;
  readonly store: WorkerStore;
  readonly operations: WorkerOperations;
  readonly workerVms: WorkerVms;
  readonly reported: ReportedEvent[];
  readonly lines: { text: string; fields: Readonly<Record<string, unknown>> }[];
  /** Starts an action; answers its id. */
  start(action: WorkerAction, operationId?: string): Promise<string>;
  /** Starts an action and waits for its end. */
  run(action: WorkerAction): Promise<Operation>;
  deploy(settings?: Partial<WorkerSettings>): Promise<string>;
}

export interface WorkerBenchOptions {
  readonly mortal?: Mortal;
  /** False: nobody looks after the workers. */
  readonly kept?: boolean;
  /** Another engine than the one in memory, with what it needs. */
  readonly real?: { readonly engine: WorkerEngine; readonly clock: Clock; readonly limits: Partial<WorkerVmLimits> };
}

/** Starts a process on the world: journal, operations, store, and the keeper unless `kept` is false. */
export async function startWorkerBench(world: WorkerWorld, options: WorkerBenchOptions = {}): Promise<WorkerBench> {
  const { mortal = new Mortal(), kept = true, real } = options;
  const time = real?.clock ?? world.clock;
  const { logger, lines } = quietLogger();
  const clock = mortal.clock(time);
  const now = () => time.now();
  const journal = new Journal(mortal.journalFile(world.journal), logger, now);
  await journal.open();
  const registry = new OperationRegistry(journal, clock, logger);
  await registry.restore();
  const file: StoreFile = {
    name: 'worker-vms.json',
    read: () => Promise.resolve(world.storeText),
    replace: (text) =>
      mortal.step(() => {
        world.storeText = text;
        return Promise.resolve();
      }),
  };
  const store = new WorkerStore(file);
  await store.open();
  const patience = new Patience(clock);
  const engine = real?.engine ?? mortal.engine(world.engine.asEngine());
  const engines = {
    of: (id: string) => {
      if (id !== platformId) throw PlatformErrors.PLATFORM_NOT_FOUND({ platformId: id });
      return engine;
    },
    platformIds: () => [platformId],
  };
  const cleaner = new Cleaner(engines, journal, patience, logger, (entry) => store.hasVm(entry.platformId, entry.objectId ?? ''));
  const reported: ReportedEvent[] = [];
  const events = { report: (event: ReportedEvent) => void reported.push(event) };
  const janitor = new Janitor(journal, registry, cleaner, events, clock, logger);
  const fleet = new ConnectedFleet(
    logger,
    {
      ...defaultFleetTiming,
      heartbeatMs: 1000,
      reconnectMs: 50,
      cancelMs: 100,
      selfTestMs: 2000,
      stuckMs: 1000 * defaultFleetTiming.stuckMs,
    },
    clock,
  );
  const host = {
    createWorkerToken: (_requestId: string, workerId: string, lifetimeMs: number) =>
      mortal.step(() => {
        if (world.guests.hostAway) return Promise.reject(CommonErrors.PEER_UNAVAILABLE({ peer: 'host' }));
        const token = `tmk1.${randomUUID()}`;
        world.guests.tokens.set(token, workerId);
        world.guests.tokenLivesMs.push(lifetimeMs);
        return Promise.resolve({ token });
      }),
    revokeWorker: (workerId: string) => mortal.step(() => Promise.resolve(void world.guests.revoked.push(workerId))),
    createProbePaths: () => Promise.resolve([]),
  };
  const upload = (order: ImageUploadOrder) =>
    mortal.step(async () => {
      if (real) return await uploadImage(order);
      world.uploads += 1;
      order.progress(order.fileBytes / 2);
      await world.halfway(order);
      if (order.signal.aborted) throw CommonErrors.CANCELLED({ what: 'upload' });
      order.progress(order.fileBytes);
    });
  const disks = new BootDisks(new ImageDisks(journal, patience, cleaner, upload), journal, patience, instanceId, logger);
  const limits = { ...defaultWorkerVmLimits, ...real?.limits };
  const starter = new WorkerStarter(host, fleet, patience, limits, logger);
  world.guests.refused = (token) => starter.tokenRefused(token);
  const operations = new WorkerOperations(
    {
      images: new WorkerImages(world.folder),
      maker: new VmMaker(disks, journal, patience, logger),
      starter,
      endpoints: () => ({ endpoint: 'plugin.example:8446', enrolmentEndpoint: 'plugin.example:8448', chosen: false }),
      madeBy: instanceId,
      ...{ engines, store, disks, workers: fleet, host, cleaner, journal, patience, events, limits, logger },
    },
    registry,
  );
  const workerVms = new WorkerVms(operations, () => fleet.list());
  world.guests.serve(fleet);
  janitor.start();
  await workerVms.image().catch(() => undefined);
  if (kept) workerVms.keeper.start();
  const start = async (action: WorkerAction, operationId: string = randomUUID()) => {
    await workerVms.startOperation({ operationId, requestedBy: 'admin', action, fingerprint: JSON.stringify(action) });
    return operationId;
  };
  const run = async (action: WorkerAction) => {
    const operation = registry.get(await start(action));
    await eventually(`the end of ${action.kind}`, () => operation.result !== undefined);
    return operation;
  };
  return {
    ...{ world, journal, registry, fleet, store, operations, workerVms, reported, lines, start, run },
    deploy: async (settings = {}) => {
      const workerId = randomUUID();
      const operation = await run({ kind: 'deploy', workerId, platformId, clusterId, settings: { ...defaultSettings, ...settings } });
      if (operation.outcome !== 'success') throw operation.result?.failure ?? CommonErrors.INTERNAL({ what: 'deploy' });
      return workerId;
    },
    [Symbol.asyncDispose]: async () => {
      if (!mortal.dead) {
        await workerVms.keeper.stop();
        await registry.stop(60_000_000);
        await janitor.stop();
      }
      mortal.kill();
      fleet.stop();
    },
  };
}
