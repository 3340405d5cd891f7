import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Secret } from '../../common/log/redact';
import { RepositorySecrets } from './repository-secrets';

describe('secrets of repositories behind gateways', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-secrets-'));
  const file = path.join(folder, 'repositories.key');
  afterAll(() => fs.rmSync(folder, { recursive: true }));
  const access = { accessKeyId: 'ID', secretAccessKey: new Secret('planted-secret'), caPem: 'pem' };

  it('come back as they were, also after a restart, and cannot be read where they are kept', () => {
    const key = RepositorySecrets.createKey();
    expect(key.secret.reveal()).toMatch(/^[0-9a-f]{64}$/);
    const sealedJson = new RepositorySecrets(file).seal('r1', { access, key }) ?? '';
    expect(sealedJson).not.toContain('planted-secret');
    expect(sealedJson).not.toContain(key.secret.reveal());
    const opened = new RepositorySecrets(file).open({ id: 'r1', sealedJson });
    expect([opened.access?.accessKeyId, opened.access?.secretAccessKey.reveal(), opened.access?.caPem]).toEqual([
      'ID',
      'planted-secret',
      'pem',
    ]);
    expect([opened.key?.slotId, opened.key?.secret.reveal()]).toEqual([key.slotId, key.secret.reveal()]);
    expect(RepositorySecrets.slotOf({ sealedJson })).toBe(key.slotId);
  });

  it('belong to one repository and one use', () => {
    const secrets = new RepositorySecrets(file);
    const sealedJson = secrets.seal('r1', { access }) ?? '';
    expect(() => secrets.open({ id: 'r2', sealedJson })).toThrow(expect.objectContaining({ code: 'SECRETS_DAMAGED' }));
    const { sealedSecret } = (JSON.parse(sealedJson) as { access: { sealedSecret: string } }).access;
    const moved = JSON.stringify({ key: { slotId: 's', sealedSecret } });
    expect(() => secrets.open({ id: 'r1', sealedJson: moved })).toThrow(expect.objectContaining({ code: 'SECRETS_DAMAGED' }));
  });

  it('are none where nothing needs them', () => {
    const secrets = new RepositorySecrets(path.join(folder, 'none'));
    expect(secrets.seal('r1', {})).toBeNull();
    expect(secrets.open({ id: 'r1', sealedJson: null })).toEqual({});
    expect(fs.existsSync(path.join(folder, 'none'))).toBe(false);
  });
});
