import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HostError, type ImageioEndpoint, type Ticket, type TicketState } from './driver';
import { freePort, isFree } from '../../common/net/free-port';
import { type KeyAndCertificate, issueServerCertificate } from './pki';
import type { FleetPaths } from './paths';
import { killMs, type ProcessRegistry } from './processes';

/**
 * The ovirt-imageio daemon of a host, or of the engine as proxy: configuration, process, control door. The daemon is the real one;
 * tickets live in its memory only, so a restart forgets them. Its local door is off: on loopback every client would look local and
 * move to the unix socket, and the TLS door would never be used.
 */
export interface ImageioPlace {
  /** Host id, or `proxy`. */
  readonly id: string;
  readonly name: string;
  /** Where it listens; also in the certificate. */
  readonly address: string;
  /** 0 takes a free port once and keeps it over restarts, as a host's address does not change. */
  readonly port: number;
}

interface ImageioMeta {
  readonly port: number;
}

export class ImageioDaemon {
  readonly #processName: string;
  readonly #directory: string;
  readonly #socket: string;
  #clockOffsetSeconds: number | undefined;

  constructor(
    readonly place: ImageioPlace,
    readonly paths: FleetPaths,
    readonly processes: ProcessRegistry,
    readonly pythonVenvDir: string,
    readonly ca: KeyAndCertificate,
    /** In front of its command; see guest-networks.ts. */
    readonly enter: readonly string[] = [],
  ) {
    this.#processName = `imageio-${place.id}`;
    this.#directory = join(paths.host(place.id), 'imageio');
    this.#socket = paths.socket('imageio', place.id);
  }

  async start(): Promise<ImageioEndpoint> {
    const port = await this.#port();
    const endpoint = { baseUrl: `https://${this.place.address.includes(':') ? `[${this.place.address}]` : this.place.address}:${port}` };
    if (this.processes.isAlive(this.#processName)) {
      // A daemon that runs but is silent (stalled by a test, say) is the host's trouble: nobody in oVirt would restart it from afar.
      if (await this.#answers(3, 1000)) return endpoint;
      throw new HostError('IMAGEIO_UNREACHABLE', `imageio of ${this.place.name} runs but does not answer.`);
    }
    rmSync(this.#socket, { force: true });
    this.#clockOffsetSeconds = undefined;
    await this.#configure(port);
    const program = join(this.pythonVenvDir, 'bin', 'ovirt-imageio');
    if (!existsSync(program)) throw new HostError('HOST_DOWN', `${program} is missing; make the Python environment first.`);
    const logFile = join(this.#directory, 'daemon.log');
    await this.processes.start<ImageioMeta>({
      name: this.#processName,
      hostId: this.place.id,
      command: [...this.enter, join(this.pythonVenvDir, 'bin', 'python'), program, '-c', this.#directory],
      stdoutFile: logFile,
      stderrFile: logFile,
      meta: { port },
    });
    if (await this.#answers(60, 2000)) return endpoint;
    const reason = this.processes.isAlive(this.#processName) ? 'it does not answer' : tail(logFile);
    await this.kill();
    throw new HostError('HOST_DOWN', `imageio of ${this.place.name} did not start: ${reason}`);
  }

  async kill(): Promise<void> {
    await this.processes.stop(this.#processName, 'SIGKILL', killMs);
  }

  async stop(): Promise<void> {
    await this.processes.stop(this.#processName, 'SIGTERM', 5000);
    this.processes.forget(this.#processName);
    rmSync(this.#socket, { force: true });
  }

  stall(stalled: boolean): void {
    this.processes.signal(this.#processName, stalled ? 'SIGSTOP' : 'SIGCONT');
  }

  async putTicket(ticket: Ticket): Promise<void> {
    await this.#control('PUT', `/tickets/${ticket.uuid}`, {
      uuid: ticket.uuid,
      size: ticket.sizeBytes,
      url: ticket.url,
      timeout: Math.trunc(ticket.timeoutSeconds),
      inactivity_timeout: Math.trunc(ticket.inactivityTimeoutSeconds),
      ops: ticket.ops,
      sparse: ticket.sparse,
      dirty: ticket.dirty,
      transfer_id: ticket.transferId,
    });
  }

  async ticket(uuid: string): Promise<TicketState | undefined> {
    const { status, body } = await this.#control('GET', `/tickets/${uuid}`, undefined, [404]);
    if (status === 404) return undefined;
    const offset = await this.#clockOffset();
    return {
      active: body['active'] === true,
      canceled: body['canceled'] === true,
      idleSeconds: Number(body['idle_time']),
      expiresInSeconds: Number(body['expires']) - offset - monotonicSeconds(),
      transferredBytes: body['transferred'] === undefined ? undefined : Number(body['transferred']),
    };
  }

  async extendTicket(uuid: string, timeoutSeconds: number): Promise<void> {
    const { status } = await this.#control('PATCH', `/tickets/${uuid}`, { timeout: Math.trunc(timeoutSeconds) }, [404]);
    if (status === 404) throw new HostError('NOT_FOUND', `imageio of ${this.place.name} knows no ticket ${uuid}.`);
  }

  async removeTicket(uuid: string): Promise<void> {
    const { status } = await this.#control('DELETE', `/tickets/${uuid}`, undefined, [409]);
    if (status === 409) throw new HostError('TICKET_BUSY', `Ticket ${uuid} is still in use.`);
  }

  async #port(): Promise<number> {
    if (this.place.port !== 0) return this.place.port;
    const file = join(this.paths.host(this.place.id), 'imageio-port');
    if (existsSync(file)) {
      const port = Number(readFileSync(file, 'utf8'));
      if (this.processes.isAlive(this.#processName) || (await isFree(this.place.address, port))) return port;
    }
    mkdirSync(this.paths.host(this.place.id), { recursive: true });
    const port = await freePort(this.place.address);
    writeFileSync(file, String(port));
    return port;
  }

  async #configure(port: number): Promise<void> {
    mkdirSync(join(this.#directory, 'conf.d'), { recursive: true });
    const identity = await issueServerCertificate(this.ca, this.place.name, [this.place.address, this.place.name]);
    const file = (name: string): string => join(this.#directory, name);
    writeFileSync(file('ca.pem'), this.ca.certificatePem);
    writeFileSync(file('cert.pem'), identity.certificatePem);
    writeFileSync(file('key.pem'), identity.privateKeyPem, { mode: 0o600 });
    chmodSync(file('key.pem'), 0o600);
    const settings = {
      daemon: { systemd_enable: 'false', drop_privileges: 'false', run_dir: this.#directory, poll_interval: '0.1' },
      tls: { key_file: file('key.pem'), cert_file: file('cert.pem'), ca_file: file('ca.pem') },
      remote: { host: this.place.address, port: String(port) },
      local: { enable: 'false' },
      // The engine's simulator retries on 409; a short wait keeps its own calls short.
      control: { transport: 'unix', socket: this.#socket, remove_timeout: '10' },
      logger_root: { level: 'INFO', handlers: 'stderr', propagate: '0' },
      handlers: { keys: 'stderr' },
    };
    const text = Object.entries(settings).map(
      ([section, values]) =>
        `[${section}]\n${Object.entries(values)
          .map(([key, value]) => `${key} = ${value}\n`)
          .join('')}`,
    );
    writeFileSync(file('conf.d/50-lab.conf'), text.join('\n'));
  }

  /**
   * Whether it answers one of so many questions, each with its own patience. Counted, not timed: while this machine stands still nobody is
   * silent. A door that is not open yet is no question: a stalled daemon's is. False as soon as the process is gone.
   */
  async #answers(questions: number, patienceMs: number): Promise<boolean> {
    const opensUntil = Date.now() + 120_000;
    for (let asked = 0; asked < questions && this.processes.isAlive(this.#processName);) {
      const answered = await this.#control('GET', '/tickets/none', undefined, [404], patienceMs).then(
        () => true,
        (error: unknown) => (isNotOpen(error) && Date.now() < opensUntil ? undefined : false),
      );
      if (answered === true) return true;
      if (answered === false) asked += 1;
      await delay(20);
    }
    return false;
  }

  /**
   * `expires` counts on the daemon's own clock, whose zero is not knowable from outside; a ticket of known life shows it. What is between
   * question and answer is the error: asked again until that is below 0.1 s, or the least of some tries.
   */
  async #clockOffset(): Promise<number> {
    if (this.#clockOffsetSeconds !== undefined) return this.#clockOffsetSeconds;
    const uuid = 'lab-clock-probe';
    let best = { error: Infinity, offset: 0 };
    for (let tries = 0; tries < 10 && best.error > 0.1; tries += 1) {
      const before = monotonicSeconds();
      await this.#control('PUT', `/tickets/${uuid}`, { uuid, size: 1, url: 'file:///dev/null', timeout: 1000, ops: ['read'] });
      const error = monotonicSeconds() - before;
      const { body } = await this.#control('GET', `/tickets/${uuid}`);
      await this.#control('DELETE', `/tickets/${uuid}`);
      if (error < best.error) best = { error, offset: Number(body['expires']) - 1000 - before };
    }
    this.#clockOffsetSeconds = best.offset;
    return best.offset;
  }

  async #control(
    method: string,
    path: string,
    body?: unknown,
    accepted: readonly number[] = [],
    timeoutMs = 30_000,
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const { status, text } = await controlRequest(
      this.#socket,
      method,
      path,
      body === undefined ? undefined : JSON.stringify(body),
      timeoutMs,
    );
    if (status >= 400 && !accepted.includes(status))
      throw new HostError('QEMU_REFUSED', `imageio refused ${method} ${path}: ${status} ${text.trim()}`);
    return { status, body: status === 200 && text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {} };
  }
}

async function controlRequest(
  socketPath: string,
  method: string,
  path: string,
  body: string | undefined,
  timeoutMs: number,
): Promise<{ status: number; text: string }> {
  return await new Promise((resolve, reject) => {
    const unreachable = (cause: Error): void =>
      reject(new HostError('IMAGEIO_UNREACHABLE', `imageio does not answer ${method} ${path}: ${cause.message}`, { cause }));
    const headers = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const outgoing = request({ socketPath, method, path, headers, agent: false, signal: AbortSignal.timeout(timeoutMs) }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', unreachable);
    });
    outgoing.on('error', unreachable);
    outgoing.end(body);
  });
}

/** Nobody listens at the control door: the daemon is starting. */
function isNotOpen(error: unknown): boolean {
  const code = error instanceof HostError ? (error.cause as NodeJS.ErrnoException | undefined)?.code : undefined;
  return code === 'ENOENT' || code === 'ECONNREFUSED';
}

const monotonicSeconds = (): number => Number(process.hrtime.bigint()) / 1e9;

function tail(file: string): string {
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-3).join(' | ');
}
