/** scripts/certificate/restart-after-rotation over real processes, with a stand-in for systemctl that starts and stops them. */
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import { freePort } from '../../common/net/free-port';
import { ServiceManager } from './service-manager';

describe('restart-after-rotation', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-restart-'));
  const map = path.join(folder, 'certificates.json');
  const manager = new ServiceManager(path.join(folder, 'manager'));
  const ports = new Map<string, number>();
  let authority: Authority;

  const file = (role: string, kind: 'pem' | 'key') => path.join(folder, `${role}.${kind}`);
  const replace = async (role: string, addresses = ['127.0.0.1']) => {
    const made = await issueIdentity(authority, { role: 'host', id: role }, addresses);
    fs.writeFileSync(file(role, 'pem'), made.certificateChainPem);
    fs.writeFileSync(file(role, 'key'), made.privateKeyPem, { mode: 0o600 });
    return fingerprintOf(role);
  };
  const fingerprintOf = (role: string) => new X509Certificate(fs.readFileSync(file(role, 'pem'))).fingerprint256;
  const shown = (role: string) => manager.shown(ports.get(role) ?? 0);
  const unit = (role: string) => `tidemark-${role}.service`;

  beforeAll(async () => {
    authority = await createAuthority('files');
    const services = [];
    // In no order that means anything.
    for (const role of ['mover', 'worker', 'server', 'plugin']) {
      await replace(role);
      ports.set(role, await manager.add(unit(role), file(role, 'pem'), file(role, 'key')));
      services.push({
        unit: unit(role),
        role,
        files: [file(role, 'pem'), file(role, 'key')],
        certificate: file(role, 'pem'),
        key: file(role, 'key'),
        health: { tls: `127.0.0.1:${ports.get(role)}` },
      });
    }
    fs.writeFileSync(map, JSON.stringify({ services }));
    manager.restarts();
  });
  afterAll(async () => {
    await manager[Symbol.asyncDispose]();
    // Services that were just killed may still have written a line.
    fs.rmSync(folder, { recursive: true, maxRetries: 20 });
  });

  it('remembers at first, and does nothing when nothing changed', async () => {
    expect(await manager.run(map)).toMatchObject({ code: 0, output: expect.stringContaining('first run') });
    expect(await manager.run(map)).toMatchObject({ code: 0, output: 'no certificate changed\n' });
    expect(manager.restarts()).toEqual([]);
  });

  it('restarts exactly the service whose certificate changed', async () => {
    const wanted = await replace('mover');
    const dry = await manager.run(map, '--dry-run');
    expect(dry).toMatchObject({ code: 0, output: expect.stringContaining('would restart, in this order: tidemark-mover.service') });
    expect(manager.restarts()).toEqual([]);
    expect(await manager.run(map)).toMatchObject({ code: 0, output: expect.stringContaining('tidemark-mover.service is up') });
    expect(manager.restarts()).toEqual([unit('mover')]);
    expect(await shown('mover')).toBe(wanted);
    expect(await manager.run(map)).toMatchObject({ code: 0, output: 'no certificate changed\n' });
  });

  it('restarts many in the order server, plug-in, mover, worker', async () => {
    for (const role of ['worker', 'mover', 'plugin', 'server']) await replace(role);
    expect((await manager.run(map)).code).toBe(0);
    expect(manager.restarts()).toEqual(['server', 'plugin', 'mover', 'worker'].map(unit));
  });

  it('puts the old files back when certificate and key do not belong together, and restarts nothing', async () => {
    const before = fingerprintOf('plugin');
    const key = fs.readFileSync(file('plugin', 'key'));
    await replace('plugin');
    fs.writeFileSync(file('plugin', 'key'), key);
    const { code, output } = await manager.run(map);
    expect(output).toContain('certificate and key of tidemark-plugin.service cannot be used');
    expect(code).toBe(3);
    expect(manager.restarts()).toEqual([]);
    expect(fingerprintOf('plugin')).toBe(before);
    expect(fs.statSync(file('plugin', 'key')).mode & 0o777).toBe(0o600);
    expect(await manager.run(map)).toMatchObject({ code: 0, output: 'no certificate changed\n' });
  });

  it('puts all old files back when a service does not come up, and restarts what it restarted', async () => {
    const before = new Map(['server', 'plugin'].map((role) => [role, fingerprintOf(role)]));
    await replace('server');
    const refused = await replace('plugin', ['elsewhere.example']);
    const { code, output } = await manager.run(map);
    expect(output).toContain('tidemark-plugin.service does not come up: systemctl says failed');
    expect(code).toBe(3);
    expect(manager.restarts()).toEqual(['server', 'plugin', 'server', 'plugin'].map(unit));
    for (const [role, fingerprint] of before) expect([role, await shown(role)]).toEqual([role, fingerprint]);
    const kept = path.join(manager.folder, 'state', 'refused');
    const copies = fs
      .readdirSync(kept, { recursive: true })
      .map(String)
      .filter((name) => name.endsWith('plugin.pem'));
    const found = copies.map((name) => new X509Certificate(fs.readFileSync(path.join(kept, name))).fingerprint256);
    expect(found).toContain(refused);
  });

  it('says loudly when a service is not up with the old files either', async () => {
    await replace('worker');
    manager.setCommand(unit('worker'), ['/bin/false']);
    const { code, output } = await manager.run(map);
    expect(output).toContain('NOT UP with the old files either: tidemark-worker.service');
    expect(code).toBe(4);
  });

  it('gives a real server the new certificate of its console', async () => {
    await replace('console');
    const port = await freePort();
    const config = path.join(folder, 'server.json');
    const listen = { address: '127.0.0.1', port, controlPort: 0, enrolmentPort: 0 };
    const own = { certificateFile: file('console', 'pem'), privateKeyFile: file('console', 'key') };
    fs.writeFileSync(config, JSON.stringify({ dataFolder: path.join(folder, 'server'), listen, addresses: ['127.0.0.1'], console: own }));
    const launcher = path.resolve(__dirname, '..', '..', 'host-adapter', 'cli', 'tidemark.js');
    manager.setCommand(unit('console'), [process.execPath, launcher, 'server', '--config', config]);
    await manager.start(unit('console'), port);
    expect(await manager.shown(port)).toBe(fingerprintOf('console'));
    const services = [
      { unit: unit('console'), role: 'server', files: Object.values(own), health: { url: `https://127.0.0.1:${port}/api/v1/health` } },
    ];
    const realMap = path.join(folder, 'real.json');
    fs.writeFileSync(realMap, JSON.stringify({ services }));
    expect(await manager.run(realMap)).toMatchObject({ code: 0, output: 'no certificate changed\n' });
    const wanted = await replace('console');
    expect(await manager.run(realMap)).toMatchObject({ code: 0, output: expect.stringContaining('is up') });
    expect(await manager.shown(port)).toBe(wanted);
  });

  it('refuses a map that it does not understand', async () => {
    const bad = path.join(folder, 'bad.json');
    fs.writeFileSync(bad, JSON.stringify({ services: [{ unit: 'x; rm', role: 'server', files: ['/a'] }] }));
    expect(await manager.run(bad)).toMatchObject({ code: 2, output: expect.stringContaining('a service needs unit, role') });
    expect((await manager.run(path.join(folder, 'none.json'))).code).toBe(2);
  });
});
