import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { loggerTo } from '../log/logger';
import { createAuthority, issueCertificate, issueIdentity } from './authority';
import type { Authority } from './authority';
import { CertificateKeeper } from './certificate-keeper';
import type { CertificateIssuer } from './certificate-keeper';
import { ProcessIdentity } from './identity';

describe('a certificate that does not carry a name of the configuration', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-keeper-'));
  let authority: Authority;
  beforeAll(async () => {
    authority = await createAuthority('keeper test');
  });
  afterAll(() => fs.rmSync(folder, { recursive: true }));

  /** Runs a keeper until it has looked after everything once; how often it asked for a certificate. */
  async function renewals(names: readonly string[], granted: readonly string[]): Promise<{ asked: number; identity: ProcessIdentity }> {
    const peer = { role: 'mover', id: 'm' } as const;
    const identity = ProcessIdentity.store(
      path.join(folder, String(Math.random())),
      await issueIdentity(authority, peer, ['localhost', '::1']),
    );
    let asked = 0;
    let looked = () => {};
    const twice = new Promise<void>((resolve) => (looked = resolve));
    const issuer: CertificateIssuer = {
      names,
      renew: async (certificateRequestPem) => {
        asked += 1;
        const order = { certificateRequestPem, identity: peer, addresses: granted, lifetimeMs: 86_400_000 };
        const certificateChainPem = await issueCertificate(authority, order);
        setTimeout(() => keeper.obey({ trustedCaFingerprints: ['another'] }, ''), 20);
        return { certificateChainPem, trustBundlePem: '' };
      },
      trustBundle: async () => {
        looked();
        return '';
      },
    };
    const keeper = new CertificateKeeper(
      identity,
      issuer,
      loggerTo(() => undefined),
    );
    await keeper.start();
    await twice;
    await keeper.stop();
    return { asked, identity };
  }

  it('is issued anew at once, without a restart of anything', async () => {
    const { asked, identity } = await renewals(['10.0.0.5', 'localhost', '::1'], ['10.0.0.5', 'localhost', '::1']);
    expect(asked).toBe(1);
    expect(identity.certificate.subjectAltName).toContain('10.0.0.5');
  });

  it('is left alone when it carries them all', async () => {
    expect((await renewals(['localhost', '::1'], [])).asked).toBe(0);
  });

  it('is asked for once when the issuer leaves the name out', async () => {
    expect((await renewals(['10.0.0.5'], ['localhost'])).asked).toBe(1);
  });
});
