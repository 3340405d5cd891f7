import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import type { LabAccess } from '../lab';

/** A plain JSON client of a running lab, for tests: the API with a token, imageio, and the control endpoint. */
export type Json = Record<string, unknown>;

export class LabClient {
  private token: string | undefined;

  constructor(private readonly access: LabAccess & { readonly password: string }) {}

  /** Logs in at the first call. Refusals are answers; a broken connection rejects. */
  async call(method: string, path: string, body?: object): Promise<{ status: number; json: Json }> {
    this.token ??= await this.login();
    const text = body === undefined ? undefined : JSON.stringify(body);
    return this.send(
      method,
      `${this.access.apiUrl}${path}`,
      { Authorization: `Bearer ${this.token}`, 'Content-Type': 'application/json' },
      text,
    );
  }

  /** The answer's body; throws unless it succeeded. */
  async must(method: string, path: string, body?: object): Promise<Json> {
    const { status, json } = await this.call(method, path, body);
    if (status < 200 || status > 299) {
      throw new Error(`${method} ${path}: ${String(status)} ${JSON.stringify(json)}`);
    }
    return json;
  }

  async list(path: string, key: string): Promise<Json[]> {
    return ((await this.must('GET', path))[key] ?? []) as Json[];
  }

  /** Polls until a field has one of the values; `absent` counts for an entity that is gone. */
  async until(path: string, field: string, wanted: readonly string[], timeoutMs = 120_000): Promise<Json> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const { status, json } = await this.call('GET', path);
      const value = status === 404 ? 'absent' : String(json[field]);
      if (wanted.includes(value)) {
        return json;
      }
      if (Date.now() > deadline) {
        throw new Error(`${path}: ${field} is ${value}, not ${wanted.join(' or ')}`);
      }
      await new Promise((wake) => setTimeout(wake, 100));
    }
  }

  /** A GET on a transfer URL. */
  image(url: string): Promise<{ status: number; json: Json }> {
    return this.send('GET', url, {});
  }

  async control(method: string, path: string, body?: object): Promise<Json> {
    const answer = await fetch(`${this.access.controlUrl}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(120_000),
    });
    const json = (await answer.json()) as Json;
    if (!answer.ok) {
      throw new Error(`${method} ${path}: ${String(answer.status)} ${JSON.stringify(json)}`);
    }
    return json;
  }

  private async login(): Promise<string> {
    const form = new URLSearchParams({
      grant_type: 'password',
      scope: 'ovirt-app-api',
      username: this.access.user,
      password: this.access.password,
    });
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
    const { json } = await this.send('POST', `${this.access.engineUrl}/sso/oauth/token`, headers, form.toString());
    return String(json['access_token']);
  }

  private send(
    method: string,
    url: string,
    headers: Readonly<Record<string, string>>,
    body?: string,
  ): Promise<{ status: number; json: Json }> {
    return new Promise((resolve, reject) => {
      const options = {
        method,
        ca: readFileSync(this.access.caFile),
        agent: false as const,
        headers: { Accept: 'application/json', ...headers },
      };
      const outgoing = request(url, options, (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(parts).toString('utf8');
          const isJson = /^[[{]/.test(text);
          resolve({ status: response.statusCode ?? 0, json: isJson ? (JSON.parse(text) as Json) : {} });
        });
      });
      outgoing.setTimeout(120_000, () => outgoing.destroy(new Error('timeout')));
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }
}
