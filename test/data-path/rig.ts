/**
 * A worker and a mover as real processes, with this program in the roles of plug-in and host towards them: the data path alone, without engine, jobs or
 * console. For benchmarks and for tests of what crosses these two processes.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { freePort } from '../../common/net/free-port';
import { packageRoot } from '../../common/lifecycle/process-info';
import { durationToWire, timestampToWire } from '../../common/rpc/bytes';
import { RpcClient } from '../../common/rpc/call';
import { failureError } from '../../common/rpc/failure-message';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import { mutualClientCredentials } from '../../common/tls/credentials';
import { ProcessIdentity } from '../../common/tls/identity';
import { loadService } from '../../proto/loader';
import type { CollectResult__Output } from '../../proto/gen/tidemark/mover/v1/CollectResult';
import type { MaintenanceServiceDefinition } from '../../proto/gen/tidemark/mover/v1/MaintenanceService';
import type { StoreAccess } from '../../proto/gen/tidemark/mover/v1/StoreAccess';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import type { SessionServiceDefinition } from '../../proto/gen/tidemark/mover/v1/SessionService';
import type { BackupDiskTask } from '../../proto/gen/tidemark/worker/v1/BackupDiskTask';
import type { RestoreDiskTask } from '../../proto/gen/tidemark/worker/v1/RestoreDiskTask';
import type { TaskProgress__Output } from '../../proto/gen/tidemark/worker/v1/TaskProgress';
import type { TaskResult__Output } from '../../proto/gen/tidemark/worker/v1/TaskResult';
import type { DataPath } from '../../proto/gen/tidemark/common/v1/DataPath';
import { eventually, startNode } from '../harness/child';
import type { Child } from '../harness/child';
import { HostRole } from './host-role';
import { PluginRole } from './plugin-role';

export type BackupOrder = Omit<BackupDiskTask, 'dataPath'>;
export type RestoreOrder = Omit<RestoreDiskTask, 'dataPath'>;

const clockAhead = path.join(packageRoot, 'dist', 'test', 'data-path', 'clock-ahead.js');

export interface MoverPorts {
  readonly port: number;
  readonly dataPort: number;
}

export class DataPathRig {
  readonly host = new HostRole();
  readonly plugin = new PluginRole();
  mover!: Child;
  worker!: Child;
  sessions!: RpcClient<SessionServiceDefinition>;
  repositories!: RpcClient<RepositoryServiceDefinition>;
  maintenance!: RpcClient<MaintenanceServiceDefinition>;
  private hostIdentity!: ProcessIdentity;
  lastResult: TaskResult__Output | undefined;

  private constructor(
    readonly folder: string,
    private readonly authority: Authority,
    private readonly workerSettings: object,
    private readonly moverSettings: object,
  ) {}

  /** The settings are added to the configuration of the worker, and of each mover. */
  static async start(folder: string, workerSettings: object = {}, moverSettings: object = {}): Promise<DataPathRig> {
    const rig = new DataPathRig(folder, await createAuthority('test'), workerSettings, moverSettings);
    const addresses = ['127.0.0.1', 'localhost'];
    rig.hostIdentity = new ProcessIdentity(await issueIdentity(rig.authority, { role: 'host', id: 'host' }, addresses), undefined);
    await rig.host.start(rig.hostIdentity);
    await rig.plugin.start(new ProcessIdentity(await issueIdentity(rig.authority, { role: 'plugin', id: 'plugin' }, addresses), undefined));
    await rig.identify('worker', 'worker');
    try {
      await rig.startMover();
      await rig.startWorker();
    } catch (error) {
      await rig.stop();
      throw error;
    }
    return rig;
  }

  get pids(): number[] {
    return [this.mover.pid, this.worker.pid];
  }

  /** Where the mover listens, so that it can be started again in the same place. */
  moverPorts(): MoverPorts {
    const portOf = (endpoint: string | undefined) => Number(endpoint?.split(':').at(-1));
    return { port: portOf(this.host.mover?.controlEndpoint), dataPort: portOf(this.host.mover?.dataEndpoints[0]) };
  }

  /** Gives a data folder an identity, unless it has one. */
  private async identify(role: 'mover' | 'worker', name: string): Promise<void> {
    const folder = path.join(this.folder, name, 'identity');
    if (fs.existsSync(folder)) return;
    ProcessIdentity.store(folder, await issueIdentity(this.authority, { role, id: `${name}-1` }, ['127.0.0.1', 'localhost']));
  }

  /**
   * Starts a mover with the data folder of this name; it is the one that the rig talks to from now on. Another one that runs is the caller's. Its clock is
   * `aheadMs` ahead. Its ports are those, or some that stay free for it while it is down.
   */
  async startMover(given?: MoverPorts, name = 'mover', aheadMs = 0): Promise<void> {
    const ports = given ?? { port: await freePort(), dataPort: await freePort() };
    this.host.mover = undefined;
    await this.identify('mover', name);
    const config = path.join(this.folder, `${name}.json`);
    fs.writeFileSync(
      config,
      JSON.stringify({ ...moverConfig(path.join(this.folder, name), this.host.port, ports), ...this.moverSettings }),
    );
    this.mover = startNode(
      path.join(packageRoot, 'dist', 'mover', 'main.js'),
      ['--config', config],
      path.join(this.folder, `${name}.log`),
      {
        env: { ...bareEnvironment(), ...(aheadMs > 0 && { NODE_OPTIONS: `--require ${clockAhead}`, CLOCK_AHEAD_MS: String(aheadMs) }) },
      },
    );
    const { controlEndpoint } = await eventually('registration of the mover', 120_000, () => this.host.mover, 20);
    this.sessions?.close();
    this.repositories?.close();
    this.maintenance?.close();
    const credentials = mutualClientCredentials(this.hostIdentity, 'mover');
    const sessions = loadService('tidemark/mover/v1/session_service.proto', 'tidemark.mover.v1.SessionService').service;
    const repositories = loadService('tidemark/mover/v1/repository_service.proto', 'tidemark.mover.v1.RepositoryService').service;
    this.sessions = new RpcClient(sessions, controlEndpoint, credentials);
    this.repositories = new RpcClient(repositories, controlEndpoint, credentials);
    const maintenance = loadService('tidemark/mover/v1/maintenance_service.proto', 'tidemark.mover.v1.MaintenanceService').service;
    this.maintenance = new RpcClient(maintenance, controlEndpoint, credentials);
  }

  async startWorker(): Promise<void> {
    const before = this.plugin.connections;
    const config = path.join(this.folder, 'worker.json');
    const endpoint = `127.0.0.1:${this.plugin.port}`;
    fs.writeFileSync(
      config,
      JSON.stringify({ dataFolder: path.join(this.folder, 'worker'), plugin: { endpoint }, ...this.workerSettings }),
    );
    this.worker = startNode(
      path.join(packageRoot, 'dist', 'worker', 'main.js'),
      ['--config', config],
      path.join(this.folder, 'worker.log'),
      {
        env: bareEnvironment(),
      },
    );
    await eventually('the worker’s connection', 120_000, () => this.plugin.connections > before || undefined, 20);
  }

  /** Makes a repository; answers its id. */
  async createRepository(place: { readonly location: string; readonly access?: StoreAccess }, encrypted = false): Promise<string> {
    const key = { kind: 'REPOSITORY_KEY_KIND_KEY_FILE' as const, secret: randomBytes(32).toString('hex') };
    const request = { requestId: randomUUID(), ...place, ...(encrypted && { key }) };
    const { repository } = await this.repositories.call('CreateRepository', request, { deadlineMs: 60_000 });
    const repositoryId = repository?.repositoryId ?? '';
    const { location } = place;
    await this.repositories.call('AttachRepository', { location, expectedRepositoryId: repositoryId }, { deadlineMs: 60_000 });
    return repositoryId;
  }

  /** Verifies everything. Throws when there is a finding. */
  async verify(repositoryId: string): Promise<void> {
    const { operationId } = await this.repositories.call('StartVerify', { requestId: randomUUID(), repositoryId }, { deadlineMs: 60_000 });
    for await (const { result } of this.repositories.stream('WatchVerify', { operationId }, { idleTimeoutMs: 120_000 })) {
      if (!result) continue;
      if (result.failure) throw failureError(result.failure);
      if (result.findingCount !== '0') throw new Error(`the verification found ${JSON.stringify(result.findings)}`);
      return;
    }
    throw new Error('the verification ended without a result');
  }

  /** Removes points and collects: condemns what only they needed. */
  async collect(repositoryId: string, pointIds: readonly string[]): Promise<CollectResult__Output> {
    for (const pointId of pointIds) await this.maintenance.call('RemovePoint', { repositoryId, pointId }, { deadlineMs: 60_000 });
    const request = { requestId: randomUUID(), repositoryId };
    const { operationId } = await this.maintenance.call('StartCollect', request, { deadlineMs: 60_000 });
    for await (const { result } of this.maintenance.stream('WatchCollect', { operationId }, { idleTimeoutMs: 120_000 })) {
      if (!result) continue;
      if (result.failure) throw failureError(result.failure);
      return result;
    }
    throw new Error('the collection ended without a result');
  }

  async openBackup(repositoryId: string, pointIds: readonly string[] = []): Promise<{ sessionId: string; dataPath: DataPath }> {
    return this.openSession(repositoryId, 'SESSION_KIND_BACKUP', pointIds);
  }

  /** One disk, one session, one point. Throws the task's failure as the TidemarkError it was. */
  async backup(
    repositoryId: string,
    order: BackupOrder,
    sizeBytes: number,
    onProgress?: (progress: TaskProgress__Output) => void,
  ): Promise<string> {
    const pointIds = order.basePointId ? [order.basePointId] : [];
    const { sessionId, dataPath } = await this.openBackup(repositoryId, pointIds);
    const task = { readScope: 'READ_SCOPE_ALLOCATED' as const, ...order, dataPath };
    const result = await this.plugin.run({ backupDisk: task }, onProgress).result;
    this.lastResult = result;
    if (result.failure) throw failureError(result.failure);
    return this.commit(sessionId, order.diskId ?? '', sizeBytes);
  }

  /** Makes the point; the same one again when it is asked for with its id. */
  async commit(sessionId: string, diskId: string, sizeBytes: number, pointId: string = randomUUID()): Promise<string> {
    const point = {
      pointId,
      platformId: 'platform',
      vmId: 'vm',
      vmName: 'vm',
      pointInTime: timestampToWire(new Date()),
      jobName: 'test',
      sessionId,
      consistency: 'CONSISTENCY_CRASH' as const,
      disks: [{ diskId, name: diskId, sizeBytes: String(sizeBytes), format: 'raw', readMode: 'READ_MODE_FULL' as const }],
    };
    await this.sessions.call('CommitSession', { sessionId, point, configuration: '{}' }, { deadlineMs: 120_000 });
    return pointId;
  }

  async restore(repositoryId: string, order: RestoreOrder, onProgress?: (progress: TaskProgress__Output) => void): Promise<void> {
    const { sessionId, dataPath } = await this.openSession(repositoryId, 'SESSION_KIND_RESTORE', [order.pointId ?? '']);
    const result = await this.plugin.run({ restoreDisk: { ...order, dataPath } }, onProgress).result;
    this.lastResult = result;
    await this.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 });
    if (result.failure) throw failureError(result.failure);
  }

  async openSession(
    repositoryId: string,
    kind: 'SESSION_KIND_BACKUP' | 'SESSION_KIND_RESTORE',
    pointIds: readonly string[],
  ): Promise<{ sessionId: string; dataPath: DataPath }> {
    return this.reopenSession(randomUUID(), repositoryId, kind, pointIds);
  }

  /** At the mover of now, whoever has the session. */
  async reopenSession(
    sessionId: string,
    repositoryId: string,
    kind: 'SESSION_KIND_BACKUP' | 'SESSION_KIND_RESTORE',
    pointIds: readonly string[],
    takeOver = false,
  ): Promise<{ sessionId: string; dataPath: DataPath }> {
    const request = { sessionId, repositoryId, kind, pointIds: [...pointIds], leaseDuration: durationToWire(600_000), takeOver };
    await this.sessions.call('OpenSession', request, { deadlineMs: 60_000 });
    const rights = kind === 'SESSION_KIND_BACKUP' ? (['write', 'read'] as const) : (['read'] as const);
    const ticket = this.host.ticket(sessionId, repositoryId, rights, pointIds);
    return { sessionId, dataPath: { endpoints: this.host.mover?.dataEndpoints ?? [], ticket, sessionId, repositoryId } };
  }

  async stop(): Promise<void> {
    await Promise.all([(this.worker as Child | undefined)?.stop(), (this.mover as Child | undefined)?.stop()]);
    this.plugin.stop();
    this.host.stop();
    (this.sessions as RpcClient<SessionServiceDefinition> | undefined)?.close();
    (this.repositories as RpcClient<RepositoryServiceDefinition> | undefined)?.close();
    (this.maintenance as RpcClient<MaintenanceServiceDefinition> | undefined)?.close();
  }
}

/** Settings of the developer's shell must not reach the processes. */
function bareEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TIDEMARK_')));
}

function moverConfig(dataFolder: string, hostPort: number, ports: MoverPorts): object {
  return {
    dataFolder,
    listen: { address: '127.0.0.1', ...ports },
    addresses: ['127.0.0.1'],
    host: { endpoint: `127.0.0.1:${hostPort}` },
  };
}
