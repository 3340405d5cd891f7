import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Server } from '@grpc/grpc-js';
import { loadService } from '../../proto/loader';
import type { EnrolmentServiceDefinition } from '../../proto/gen/tidemark/host/v1/EnrolmentService';
import { loggerTo } from '../log/logger';
import { RpcClient } from '../rpc/call';
import { serve } from '../rpc/serve';
import { createAuthority, issueCertificate, issueIdentity } from './authority';
import type { Authority } from './authority';
import { enrolmentServerCredentials } from './credentials';
import { enrol, splitEndpoint } from './enrolment';
import { ProcessIdentity } from './identity';
import { createToken, fingerprintOf, parseToken } from './token';

const service = loadService('tidemark/host/v1/enrolment_service.proto', 'tidemark.host.v1.EnrolmentService').service;

describe('enrolment', () => {
  let authority: Authority;
  let server: Server;
  let endpoint: string;
  let folder: string;
  let applications = 0;

  beforeAll(async () => {
    authority = await createAuthority('Tidemark test CA');
    server = new Server();
    serve<EnrolmentServiceDefinition>(
      server,
      service,
      {
        Enrol: {
          roles: 'anyone',
          unary: async (request) => {
            applications += 1;
            const certificateChainPem = await issueCertificate(authority, {
              certificateRequestPem: request.application?.certificateRequestPem ?? '',
              identity: { role: 'plugin', id: 'p-1' },
              addresses: request.application?.addresses ?? [],
              lifetimeMs: 3_600_000,
            });
            return { subjectId: 'p-1', certificate: { certificateChainPem, trustBundlePem: authority.certificatePem } };
          },
        },
      },
      { logger: loggerTo(() => undefined), domain: 'host' },
    );
    const identity = new ProcessIdentity(await issueIdentity(authority, { role: 'host', id: 'h' }, ['127.0.0.1']), undefined);
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', enrolmentServerCredentials(identity), (error, bound) => (error ? reject(error) : resolve(bound))),
    );
    endpoint = `127.0.0.1:${port}`;
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-enrol-'));
  });
  afterAll(() => {
    server.forceShutdown();
    fs.rmSync(folder, { recursive: true });
  });

  const attempt = (token: string) =>
    enrol({
      endpoint,
      token,
      server: 'host',
      process: {},
      addresses: ['worker.example', '10.0.0.9'],
      identityFolder: folder,
      apply: async (credentials, application) => {
        const client = new RpcClient<EnrolmentServiceDefinition>(service, endpoint, credentials);
        try {
          return (await client.call('Enrol', { application }, { deadlineMs: 60_000 })).certificate;
        } finally {
          client.close();
        }
      },
    });

  it('trades a token for an identity that survives a restart', async () => {
    const identity = await attempt(createToken(authority.certificatePem));
    expect(identity.self).toEqual({ role: 'plugin', id: 'p-1' });
    expect(identity.certificate.subjectAltName).toContain('DNS:worker.example');
    expect(identity.certificate.subjectAltName).toContain('IP Address:10.0.0.9');
    const again = ProcessIdentity.load(folder);
    expect(again?.material).toEqual(identity.material);
    expect(fs.statSync(path.join(folder, 'identity.json')).mode & 0o077).toBe(0);
    const life = Date.parse(identity.certificate.validTo) - Date.parse(identity.certificate.validFrom);
    expect(identity.renewAt.getTime()).toBeCloseTo(Date.parse(identity.certificate.validFrom) + (life * 2) / 3, -3);
  });

  it('sends nothing to a server with another CA', async () => {
    const before = applications;
    const foreign = await createAuthority('foreign');
    await expect(attempt(createToken(foreign.certificatePem))).rejects.toMatchObject({
      code: 'TRUST_FINGERPRINT_MISMATCH',
      meta: { found: fingerprintOf(authority.certificatePem) },
    });
    expect(applications).toBe(before);
  });

  it('names a token that is none', async () => {
    await expect(attempt('hello')).rejects.toMatchObject({ code: 'ENROLMENT_TOKEN_INVALID' });
    expect(() => parseToken('tmk1.x.y')).toThrow('copy the whole line');
  });

  it('refuses a damaged identity file by name', () => {
    const broken = path.join(folder, 'broken');
    fs.mkdirSync(broken);
    fs.writeFileSync(path.join(broken, 'identity.json'), '{}');
    expect(() => ProcessIdentity.load(broken)).toThrow('identity.json');
  });
});

describe('splitEndpoint', () => {
  it.each([
    ['host.example:8444', 'host.example', 8444],
    ['[fd00::1]:8444', 'fd00::1', 8444],
    ['10.0.0.1:1', '10.0.0.1', 1],
  ])('reads %s', (text, host, port) => expect(splitEndpoint(text)).toEqual({ host, port }));

  it.each(['host', 'host:', ':1', 'a:b:1', 'host:70000', 'fd00::1:8444:x'])('refuses %s', (text) => {
    expect(() => splitEndpoint(text)).toThrow(expect.objectContaining({ code: 'ARGUMENT_INVALID' }));
  });
});
