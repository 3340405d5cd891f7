import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { API_ROOT } from './href';
import { type ApiRun, header, readText, serveApi, serviceUnavailable } from './api-server';
import { parseTarget } from './request-target';
import { issueToken, revokeToken, type SsoAnswer } from './sso';

/**
 * The web server in front of the engine (Apache, in oVirt): TLS, single sign-on, certificates, health, and the API. It stays up
 * while the engine restarts and answers 503 in HTML meanwhile.
 */
export interface FrontEndOptions {
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  readonly privateKeyPem: string;
  readonly certificatePem: string;
  readonly caPem: string;
}

const SMALL_BODY_BYTES = 64 * 1024;

export class FrontEnd {
  private readonly server: Server;
  private run: ApiRun | undefined;

  constructor(private readonly options: FrontEndOptions) {
    this.server = createServer({ key: options.privateKeyPem, cert: options.certificatePem }, (request, response) => {
      this.serve(request, response).catch((error: unknown) => {
        this.run?.log.error('request failed', error);
        response.destroy();
      });
    });
    // Clients keep connections for a session; Apache's default of 5 s would make them race with the close.
    this.server.keepAliveTimeout = 60_000;
  }

  /** Starts to listen; answers 503 until {@link serveRun}. Resolves to the port. */
  async listen(): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(this.options.port, this.options.host, resolve);
    });
    return (this.server.address() as AddressInfo).port;
  }

  serveRun(run: ApiRun | undefined): void {
    this.run = run;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.server.close(() => {
        resolve();
      });
    });
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { run } = this;
    if (!run) {
      request.resume();
      serviceUnavailable(response);
      return;
    }
    const { path, query } = parseTarget(request.url ?? '/');
    if (path === API_ROOT || path.startsWith(`${API_ROOT}/`)) {
      await serveApi(run, request, response, () => request.socket.destroy());
    } else if (path === '/ovirt-engine/sso/oauth/token') {
      await this.serveToken(run, request, response);
    } else if (path === '/ovirt-engine/services/sso-logout' && request.method === 'POST') {
      sendJson(response, revokeToken(await readForm(request), run.authentication));
    } else if (path === '/ovirt-engine/sso/oauth/token-http-auth') {
      response.writeHead(401, { 'WWW-Authenticate': 'Negotiate' }).end();
    } else if (path === '/ovirt-engine/services/health') {
      response.writeHead(200, { 'Content-Type': 'text/html;charset=UTF-8' }).end('DB Up!Welcome to Health Status!');
    } else if (path === '/ovirt-engine/services/pki-resource') {
      this.servePki(query.text('resource'), query.text('format'), response);
    } else {
      response.writeHead(404, { 'Content-Type': 'text/html; charset=iso-8859-1' }).end('<html><body><h1>Not Found</h1></body></html>');
    }
  }

  private async serveToken(run: ApiRun, request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const effect of run.faults.forRequest('sso', request.url ?? '')) {
      if (effect.kind === 'drop') {
        request.socket.destroy();
        return;
      }
      if (effect.kind === 'html503') {
        serviceUnavailable(response);
        return;
      }
      if (effect.kind === 'delay') {
        await run.clock.sleep(effect.ms * run.clock.factor);
      }
      if (effect.kind === 'fault') {
        sendJson(response, {
          status: effect.status,
          body: { error_code: effect.name ?? 'server_error', error: effect.detail ?? 'injected' },
        });
        return;
      }
    }
    const form = await readForm(request);
    sendJson(response, issueToken({ method: request.method ?? 'GET', accept: header(request, 'accept'), form }, run.authentication));
  }

  private servePki(resource: string | undefined, format: string | undefined, response: ServerResponse): void {
    const certificates: Readonly<Record<string, string>> = {
      'ca-certificate': this.options.caPem,
      'engine-certificate': this.options.certificatePem,
      'qemu-ca-certificate': this.options.caPem,
    };
    const pem = certificates[resource ?? ''];
    const known = format === undefined || format === 'X509-PEM' || (format === 'X509-PEM-CA' && resource !== 'engine-certificate');
    if (pem === undefined || !known) {
      response.writeHead(400, { 'Content-Type': 'text/html;charset=UTF-8' }).end('<html><body>Bad Request</body></html>');
      return;
    }
    response
      .writeHead(200, { 'Content-Type': format === 'X509-PEM-CA' ? 'application/x-x509-ca-cert' : 'application/x-x509-cert' })
      .end(pem);
  }
}

async function readForm(request: IncomingMessage): Promise<URLSearchParams> {
  return new URLSearchParams(await readText(request, SMALL_BODY_BYTES));
}

function sendJson(response: ServerResponse, answer: SsoAnswer): void {
  const text = JSON.stringify(answer.body);
  response.writeHead(answer.status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) }).end(text);
}
