import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Lifecycle } from '../../common/lifecycle/lifecycle';
import { ownLoopback } from '../../common/testing/loopback';
import { composeServer } from '../composition/composition';
import type { ServerProcess } from '../composition/composition';
import type { ServerEndpoints } from '../composition/foundation';
import { serverConfigSchema } from '../config';
import { FakeMover } from './fake-mover';
import { FakePlugin } from './fake-plugin';
import type { FakeRepository } from './fake-repository';
import { enrolStranger, quiet, until } from './fake-process';

export interface Answer {
  readonly status: number;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- whatever the API answers; the tests look at it
  readonly body: any;
}

/** A whole server in this process, on free ports and a folder of its own, that can be killed and started again. */
export class TestInstallation {
  /** Longer than a machine stalls: {@link lose} ends a lease. */
  readonly leaseMs = 120_000;
  readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-server-'));
  #server: ServerProcess | undefined;
  #lifecycle: Lifecycle | undefined;
  #token = '';
  readonly #stops: (() => Promise<void>)[] = [];
  #ports = { port: 0, controlPort: 0, enrolmentPort: 0 };

  get server(): ServerProcess {
    if (!this.#server) throw new Error('not started');
    return this.#server;
  }

  get endpoints(): ServerEndpoints {
    return this.server.endpoints();
  }

  async start(): Promise<void> {
    const config = serverConfigSchema.parse({
      dataFolder: this.folder,
      listen: { address: ownLoopback, ...this.#ports },
      addresses: [ownLoopback, '127.0.0.1', 'localhost'],
      leaseMs: this.leaseMs,
    });
    this.#server = await composeServer(config, quiet);
    // Nothing is cut off at its end by a machine that stalls.
    this.#lifecycle = new Lifecycle(this.#server.services, quiet, 120_000);
    await this.#lifecycle.start();
    const port = (endpoint: string) => Number(endpoint.slice(endpoint.lastIndexOf(':') + 1));
    const { console: url, control, enrolment } = this.endpoints;
    this.#ports = { port: port(url), controlPort: port(control), enrolmentPort: port(enrolment) };
  }

  /** What is in the catalogue stays; nothing else is said to anybody, as after a kill. */
  async kill(): Promise<void> {
    await this.#lifecycle?.stop();
    this.#server = undefined;
  }

  async remove(): Promise<void> {
    await Promise.all(this.#stops.map((stop) => stop()));
    await this.kill();
    fs.rmSync(this.folder, { recursive: true });
  }

  /** A mover that is stopped, and whose lease is over: nobody waits for its end. */
  async lose(mover: FakeMover): Promise<void> {
    await mover.stop();
    const past = new Date(0).toISOString();
    await this.server.processes.renewMover(mover.id, past, past);
  }

  async login(): Promise<void> {
    const password = fs.readFileSync(path.join(this.folder, 'initial-admin-password'), 'utf8').trim();
    this.#token = ((await this.api('POST', '/login', { user: 'admin', password })).body as { token: string }).token;
  }

  get token(): string {
    return this.#token;
  }

  /** Calls the REST API without a socket. */
  async api(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, body?: object, token = this.#token): Promise<Answer> {
    const answer = await this.server.console.app.inject({
      method,
      url: `/api/v1${url}`,
      ...(body ? { payload: body } : {}),
      headers: token === '' ? {} : { authorization: `Bearer ${token}` },
    });
    return { status: answer.statusCode, body: answer.body === '' ? undefined : JSON.parse(answer.body) };
  }

  /** Enrols another fake mover and starts it; `repository` is what it serves with others. */
  async addMover(repository: FakeRepository, hostName: string, gateway = true): Promise<FakeMover> {
    const { body } = await this.api('POST', '/movers/enrolment-tokens', { gateway });
    const mover = new FakeMover(await enrolStranger(this.endpoints.enrolment, (body as { token: string }).token), repository, hostName);
    const { control } = this.endpoints;
    this.#stops.push(() => mover.stop());
    await mover.start(() => control);
    await until(async () => ((await this.api('GET', `/movers/${mover.id}`)).body as { state: string }).state === 'connected');
    return mover;
  }

  /** Enrols a fake plug-in and a fake mover, enables the plug-in, adds a platform, a repository and a job over all VMs. */
  async furnish(job: object = {}): Promise<{ plugin: FakePlugin; mover: FakeMover; jobId: string }> {
    const identityOf = async (role: 'plugins' | 'movers') => {
      const { body } = await this.api('POST', `/${role}/enrolment-tokens`, {});
      return enrolStranger(this.endpoints.enrolment, (body as { token: string }).token);
    };
    const plugin = new FakePlugin(await identityOf('plugins'));
    const mover = new FakeMover(await identityOf('movers'));
    const { control } = this.endpoints;
    this.#stops.push(
      () => plugin.stop(),
      () => mover.stop(),
    );
    await plugin.start(() => control);
    await mover.start(() => control);
    const connected = async (url: string) => ((await this.api('GET', url)).body as { state: string }).state === 'connected';
    await until(() => connected(`/plugins/${plugin.id}`));
    await until(async () => connected(`/movers/${((await this.api('GET', '/movers')).body as { items: { id: string }[] }).items[0]?.id}`));
    await this.api('POST', `/plugins/${plugin.id}/enable`);
    await this.api('PATCH', '/config', { retryDelaysMs: [10], ...maintenanceInHalfADay() });
    const platform = { name: 'east', url: 'https://engine.example', username: 'u', password: 'secret-password', caFingerprint: 'AA:BB' };
    await this.api('POST', '/platforms', platform);
    await this.api('POST', '/repositories', {
      name: 'main',
      location: '/srv/backup',
      key: { kind: 'passphrase', secret: 'a long passphrase' },
    });
    const made = await this.api('POST', '/jobs', { name: 'nightly', repository: 'main', selector: { include: ['*'] }, ...job });
    return { plugin, mover, jobId: (made.body as { id: string }).id };
  }

  /** Waits until a session has ended and returns it with its tasks. */
  ended(sessionId: string): Promise<Answer['body']> {
    return until(async () => {
      const { body } = await this.api('GET', `/sessions/${sessionId}`);
      return (body as { endedAt: string | null }).endedAt === null ? undefined : (body as object);
    });
  }
}

/** Nothing begins by itself while a test runs, whatever the time of day is. */
function maintenanceInHalfADay(): object {
  const then = new Date(Date.now() + 12 * 3_600_000);
  const schedule = `${then.getMinutes()} ${then.getHours()} * * *`;
  return { configurationCopySchedule: schedule, collectSchedule: schedule };
}
