import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ControlServer } from '../control/control-server';
import { engineControls } from '../control/engine-controls';
import { EngineServer } from '../engine-server';
import type { Core } from '../model/core';
import type { EngineSettings } from '../model/settings';
import { createLabCa, issueServerCertificate } from '../../hosts/pki';
import { seedInventory } from '../../seed/seed-inventory';
import { FakeFleet } from './fake-fleet';

/** The engine with its web server and control endpoint over an in-memory fleet, as HTTP clients see it. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Parsed when the answer is JSON. */
  readonly json: Record<string, unknown>;
}

export interface RequestOptions {
  readonly headers?: Readonly<Record<string, string>>;
  /** An object is sent as JSON, a text as it is. */
  readonly body?: unknown;
}

export const PASSWORD = 'lab password';

export class EngineOverTls {
  private port = 0;
  private controlPort = 0;

  private constructor(
    readonly fleet: FakeFleet,
    readonly server: EngineServer,
    private readonly control: ControlServer,
    private readonly caPem: string,
    private readonly dataDir: string,
    /** What the engine logged as errors: a test that expects none looks here. */
    readonly logged: readonly string[],
  ) {}

  static async open(settings: Partial<EngineSettings> = {}): Promise<EngineOverTls> {
    const ca = await createLabCa('test authority');
    const certificate = await issueServerCertificate(ca, 'engine', ['127.0.0.1']);
    const errors: string[] = [];
    const fleet = new FakeFleet();
    const dataDir = mkdtempSync(join(tmpdir(), 'lab-tls-data-'));
    const server = new EngineServer({
      fleet,
      dataDir,
      settings: { clockFactor: 1_000, ...settings },
      log: {
        info: () => undefined,
        error: (text, error) => errors.push(`${text}: ${error instanceof Error ? (error.stack ?? '') : String(error)}`),
      },
      host: '127.0.0.1',
      port: 0,
      privateKeyPem: certificate.privateKeyPem,
      certificatePem: certificate.certificatePem,
      caPem: ca.certificatePem,
    });
    const control = new ControlServer(
      engineControls(server, fleet, (vmId) => {
        fleet.crashVm(vmId);
      }),
    );
    const opened = new EngineOverTls(fleet, server, control, ca.certificatePem, dataDir, errors);
    const clusters = [
      { name: 'Default', level: '4.7', hosts: ['host-1'] },
      { name: 'Level45', level: '4.5', hosts: ['host-2'] },
    ];
    opened.port = await server.start((run) => {
      seedInventory(run.core.db, {
        ca,
        engineCertificate: certificate,
        hosts: clusters.map((cluster) => ({ id: randomUUID(), name: cluster.hosts[0] ?? '', cluster: cluster.name })),
        adminPassword: PASSWORD,
        plan: { dataCenter: 'Default', clusters, storageDomains: ['data-1', 'data-2'], tags: ['gold', 'silver'], vms: [] },
        enginePort: 0,
        controlPort: 0,
      });
    });
    opened.controlPort = await opened.control.listen('127.0.0.1', 0);
    return opened;
  }

  get core(): Core {
    if (!this.server.run) {
      throw new Error('the engine is down');
    }
    return this.server.run.core;
  }

  async close(): Promise<void> {
    await this.control.close();
    await this.server.stop();
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  /** A request to the web server; identity is the caller's. Rejects when the connection breaks. */
  send(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    const body = options.body === undefined ? undefined : typeof options.body === 'string' ? options.body : JSON.stringify(options.body);
    return new Promise((resolve, reject) => {
      const outgoing = request(
        { host: '127.0.0.1', port: this.port, path, method, ca: this.caPem, agent: false, headers: { ...options.headers } },
        (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.on('end', () => {
            const text = Buffer.concat(parts).toString('utf8');
            resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: parse(response.headers, text) });
          });
          response.on('error', reject);
        },
      );
      outgoing.setTimeout(60_000, () => outgoing.destroy(new Error('timeout')));
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }

  /** A JSON request to the API as the administrator; `path` is below the API root. */
  api(method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    const basic = Buffer.from(`admin@internal:${PASSWORD}`).toString('base64');
    return this.send(method, `/ovirt-engine/api${path}`, {
      headers: { Authorization: `Basic ${basic}`, Accept: 'application/json', 'Content-Type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body }),
    });
  }

  async token(form: string, accept = 'application/json'): Promise<Answer> {
    return this.send('POST', '/ovirt-engine/sso/oauth/token', {
      headers: { Accept: accept, 'Content-Type': 'application/x-www-form-urlencoded' },
      body: form,
    });
  }

  /** A request to the control endpoint. */
  async steer(method: string, path: string, body: unknown = {}): Promise<unknown> {
    const answer = await fetch(`http://127.0.0.1:${String(this.controlPort)}${path}`, {
      method,
      ...(method === 'POST' ? { body: JSON.stringify(body) } : {}),
      signal: AbortSignal.timeout(60_000),
    });
    const json: unknown = await answer.json();
    if (!answer.ok) {
      throw new Error(`${String(answer.status)} ${JSON.stringify(json)}`);
    }
    return json;
  }
}

function parse(headers: IncomingHttpHeaders, text: string): Record<string, unknown> {
  return headers['content-type']?.startsWith('application/json') === true ? (JSON.parse(text) as Record<string, unknown>) : {};
}
