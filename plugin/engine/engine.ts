/**
 * One connected engine in our words: `engine.vms.get(id)`, `engine.backups.start(vmId, …)`, `engine.transfers.create(…)`. One file per
 * resource; what an oVirt URL, field or fault looks like is known in this folder only. It must not know what a backup of ours is.
 *
 * Errors: see engine-errors.ts. Reads, deletes and updates are repeated for about 15 s while the engine is away; creates only when an id of
 * ours lets us find what was made. Conflicts are thrown (ENGINE_CONFLICT): wait with `Patience.whileConflict` where a reason can be shown.
 */
import type { Dispatcher } from 'undici';
import type { Logger } from '../../common/log/logger';
import { Access } from './access';
import { AffinityGroups } from './affinity-groups';
import { Backups } from './backups';
import { Checkpoints } from './checkpoints';
import { Clusters } from './clusters';
import { DataCenters } from './data-centers';
import { DiskAttachments } from './disk-attachments';
import { Disks } from './disks';
import { EngineClient } from './engine-client';
import { EngineSession } from './engine-session';
import type { EngineConnection } from './engine-session';
import { Events } from './events';
import { GraphicsConsoles } from './graphics-consoles';
import { Hosts } from './hosts';
import { ImageTransfers } from './image-transfers';
import { Jobs } from './jobs';
import { Networks } from './networks';
import { Nics } from './nics';
import { defaultRetryPolicy } from './retry';
import type { RetryPolicy } from './retry';
import { Snapshots } from './snapshots';
import { StorageDomains } from './storage-domains';
import { Tags } from './tags';
import { Templates } from './templates';
import { Vms } from './vms';

export class Engine {
  readonly access: Access;
  readonly affinityGroups: AffinityGroups;
  readonly backups: Backups;
  readonly checkpoints: Checkpoints;
  readonly clusters: Clusters;
  readonly dataCenters: DataCenters;
  readonly diskAttachments: DiskAttachments;
  readonly disks: Disks;
  readonly events: Events;
  readonly graphicsConsoles: GraphicsConsoles;
  readonly hosts: Hosts;
  readonly jobs: Jobs;
  readonly networks: Networks;
  readonly nics: Nics;
  readonly snapshots: Snapshots;
  readonly storageDomains: StorageDomains;
  readonly tags: Tags;
  readonly templates: Templates;
  readonly transfers: ImageTransfers;
  readonly vms: Vms;
  readonly #client: EngineClient;

  constructor(session: EngineSession, policy: RetryPolicy = defaultRetryPolicy) {
    const client = new EngineClient(session, policy);
    this.#client = client;
    this.access = new Access(client);
    this.affinityGroups = new AffinityGroups(client);
    this.backups = new Backups(client);
    this.checkpoints = new Checkpoints(client);
    this.clusters = new Clusters(client);
    this.dataCenters = new DataCenters(client);
    this.diskAttachments = new DiskAttachments(client);
    this.disks = new Disks(client);
    this.events = new Events(client);
    this.graphicsConsoles = new GraphicsConsoles(client);
    this.hosts = new Hosts(client);
    this.jobs = new Jobs(client);
    this.networks = new Networks(client);
    this.nics = new Nics(client);
    this.snapshots = new Snapshots(client);
    this.storageDomains = new StorageDomains(client);
    this.tags = new Tags(client);
    this.templates = new Templates(client);
    this.transfers = new ImageTransfers(client);
    this.vms = new Vms(client);
  }

  /** Logs in at the first request. `dispatcher` is for tests. */
  static connect(connection: EngineConnection, logger: Logger, dispatcher?: Dispatcher): Engine {
    return new Engine(new EngineSession(connection, logger, dispatcher));
  }

  /** Canonical URL. */
  get url(): string {
    return this.#client.session.connection.url;
  }

  /** PEM of the CA that signs hosts and imageio; give it to workers for transfer and proxy URLs. */
  get imageioCaPem(): string {
    return this.#client.session.connection.internalCaPem;
  }

  /** PEM of the CA of the engine's own address, port 443; another one than {@link imageioCaPem} where an administrator replaced it. */
  get webCaPem(): string {
    return this.#client.session.connection.webCaPem;
  }

  get lastContactAt(): Date | undefined {
    return this.#client.session.lastContactAt;
  }

  /** Logs in now. Throws ENGINE_LOGIN_REFUSED, ENGINE_UNAVAILABLE, ENGINE_CERTIFICATE_CHANGED, ENGINE_CERTIFICATE_INVALID. */
  login(signal?: AbortSignal): Promise<void> {
    return this.#client.session.login(signal);
  }

  /** Other credentials or certificates from now on; whoever holds this engine goes on with them. */
  async reconnect(session: EngineSession): Promise<void> {
    const old = this.#client.session;
    this.#client.session = session;
    await old.close();
  }

  /** Logs out and closes connections; later requests fail with ENGINE_UNAVAILABLE. */
  close(): Promise<void> {
    return this.#client.session.close();
  }
}
