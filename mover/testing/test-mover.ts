import { createPublicKey, generateKeyPairSync, randomUUID, type KeyObject } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Lifecycle } from '../../common/lifecycle/lifecycle';
import { processInfo } from '../../common/lifecycle/process-info';
import { loggerTo, type LogFields } from '../../common/log/logger';
import { RpcClient } from '../../common/rpc/call';
import type { Role } from '../../common/rpc/peer';
import { signTicket, type TicketRight } from '../../common/tickets/ticket';
import { createAuthority, issueIdentity, type Authority } from '../../common/tls/authority';
import { mutualClientCredentials } from '../../common/tls/credentials';
import { ProcessIdentity } from '../../common/tls/identity';
import type { RepositoryServiceDefinition } from '../../proto/gen/tidemark/mover/v1/RepositoryService';
import type { SessionServiceDefinition } from '../../proto/gen/tidemark/mover/v1/SessionService';
import { loadService } from '../../proto/loader';
import { composeMover, type MoverProcess } from '../composition';
import { moverConfigSchema } from '../config';
import { TestLane } from './test-lane';

const sessionDefinition = loadService('tidemark/mover/v1/session_service.proto', 'tidemark.mover.v1.SessionService').service;
const repositoryDefinition = loadService('tidemark/mover/v1/repository_service.proto', 'tidemark.mover.v1.RepositoryService').service;

/** Makes and removes a folder for one test. */
export function temporaryFolder(): { folder: string; [Symbol.dispose](): void } {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-mover-'));
  return { folder, [Symbol.dispose]: () => fs.rmSync(folder, { recursive: true, force: true }) };
}

/** A whole mover, composed as the process is, with its own CA; the host is played by the test. */
export class TestMover {
  readonly logged: { level: string; text: string; fields: LogFields }[] = [];
  readonly sessions: RpcClient<SessionServiceDefinition>;
  readonly repositories: RpcClient<RepositoryServiceDefinition>;

  private constructor(
    readonly folder: string,
    readonly authority: Authority,
    readonly own: ProcessIdentity,
    readonly worker: ProcessIdentity,
    readonly host: ProcessIdentity,
    readonly ticketKey: KeyObject,
    private readonly mover: MoverProcess,
    private readonly lifecycle: Lifecycle,
    logged: TestMover['logged'],
  ) {
    this.logged = logged;
    this.sessions = this.client(sessionDefinition, host);
    this.repositories = this.client(repositoryDefinition, host);
  }

  /** Starts a mover over a data folder; `settings` are merged into its configuration. `like`: another mover of the same host. */
  static async start(folder: string, settings: Record<string, unknown> = {}, like?: TestMover): Promise<TestMover> {
    const authority = like?.authority ?? (await createAuthority('test'));
    const make = async (role: Role) =>
      new ProcessIdentity(await issueIdentity(authority, { role, id: `${role}-1` }, ['localhost', '127.0.0.1']), undefined);
    const privateKey = like?.ticketKey ?? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const publicKey = createPublicKey(privateKey);
    const dataFolder = path.join(folder, 'data');
    fs.mkdirSync(dataFolder, { recursive: true });
    fs.writeFileSync(path.join(dataFolder, 'ticket-keys.json'), JSON.stringify([publicKey.export({ type: 'spki', format: 'pem' })]));
    const logged: TestMover['logged'] = [];
    const logger = loggerTo((level, text, fields) => logged.push({ level, text, fields }));
    const config = moverConfigSchema.parse({
      dataFolder,
      listen: { address: '127.0.0.1', port: 0, dataPort: 0 },
      addresses: ['127.0.0.1'],
      host: { endpoint: '127.0.0.1:1' },
      // A mover that cannot renew its lease for as long lets go of its repository, rightly: not on a machine that is merely busy.
      lockLeaseMs: 600_000,
      ...settings,
    });
    const own = await make('mover');
    const mover = composeMover(config, logger, processInfo(dataFolder, [], []), own);
    const lifecycle = new Lifecycle(mover.services, logger);
    await lifecycle.start();
    return new TestMover(folder, authority, own, await make('worker'), await make('host'), privateKey, mover, lifecycle, logged);
  }

  get dataPort(): number {
    return portOf(this.mover.endpoints().dataEndpoints[0] as string);
  }

  async identity(role: Role): Promise<ProcessIdentity> {
    return new ProcessIdentity(await issueIdentity(this.authority, { role, id: `${role}-2` }, ['127.0.0.1']), undefined);
  }

  client<S>(definition: typeof sessionDefinition, identity: ProcessIdentity): RpcClient<S> {
    return new RpcClient<S>(definition, this.mover.endpoints().controlEndpoint, mutualClientCredentials(identity, 'mover'));
  }

  sessionsAs(identity: ProcessIdentity): RpcClient<SessionServiceDefinition> {
    return this.client(sessionDefinition, identity);
  }

  /** A new repository in a folder of its own; its id. */
  async createRepository(blockSizeBytes = 65_536, name = 'repository'): Promise<string> {
    const { repository } = await this.repositories.call(
      'CreateRepository',
      { requestId: randomUUID(), location: this.location(name), settings: { blockSizeBytes, compression: 'COMPRESSION_ZSTD' } },
      { deadlineMs: 60_000 },
    );
    return repository?.repositoryId ?? '';
  }

  location(name = 'repository'): string {
    return `directory:${path.join(this.folder, name)}`;
  }

  async openSession(repositoryId: string, kind: 'BACKUP' | 'RESTORE', pointIds: string[] = [], leaseSeconds = 3_600): Promise<string> {
    const sessionId = randomUUID();
    await this.sessions.call(
      'OpenSession',
      { sessionId, repositoryId, kind: `SESSION_KIND_${kind}`, pointIds, leaseDuration: { seconds: leaseSeconds, nanos: 0 } },
      { deadlineMs: 60_000 },
    );
    return sessionId;
  }

  ticket(sessionId: string, repositoryId: string, rights: TicketRight[], pointIds: string[] = [], lifeMs = 60_000): string {
    return signTicket({ sessionId, repositoryId, rights, pointIds, expiresAt: new Date(Date.now() + lifeMs) }, this.ticketKey);
  }

  async lane(sessionId: string, repositoryId: string, rights: TicketRight[] = ['write'], pointIds: string[] = []): Promise<TestLane> {
    return TestLane.open(this.dataPort, this.worker.material, this.ticket(sessionId, repositoryId, rights, pointIds));
  }

  async commit(
    sessionId: string,
    disks: { diskId: string; sizeBytes: number }[],
    pointId: string = randomUUID(),
    configuration = '{}',
  ): Promise<string> {
    await this.sessions.call(
      'CommitSession',
      {
        sessionId,
        configuration,
        point: {
          pointId,
          platformId: 'platform',
          vmId: 'vm',
          vmName: 'a vm',
          pointInTime: { seconds: 1_700_000_000, nanos: 0 },
          consistency: 'CONSISTENCY_CRASH',
          disks: disks.map((d) => ({ ...d, readMode: 'READ_MODE_FULL' as const })),
        },
      },
      { deadlineMs: 60_000 },
    );
    return pointId;
  }

  /** Backs one disk up in a session of its own; the point's id. */
  async backup(
    repositoryId: string,
    sizeBytes: number,
    blocks: ReadonlyMap<number, Buffer>,
    base: { pointId?: string; diskId?: string } = {},
  ): Promise<string> {
    const sessionId = await this.openSession(repositoryId, 'BACKUP', base.pointId === undefined ? [] : [base.pointId]);
    const lane = await this.lane(sessionId, repositoryId);
    const { handle } = await lane.openDisk(
      'disk',
      sizeBytes,
      base.pointId ?? '',
      base.pointId === undefined ? '' : (base.diskId ?? 'disk'),
    );
    await lane.send(handle, blocks);
    const { missing } = await lane.commitDisk(handle);
    if (missing.length > 0) throw new Error(`missing ${missing.join()}`);
    lane.close();
    return this.commit(sessionId, [{ diskId: 'disk', sizeBytes }]);
  }

  async stop(): Promise<void> {
    this.sessions.close();
    this.repositories.close();
    await this.lifecycle.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function portOf(endpoint: string): number {
  return Number(endpoint.slice(endpoint.lastIndexOf(':') + 1));
}
