import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import type { AddressInfo } from 'node:net';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import { volumeLabel } from './config-drive';
import { consoleLogger } from './console';
import { main } from './main';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-appliance-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

const token = 'tmk1.planted-secret-0123456789.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';

function driveWith(userData: string): string {
  const drive = fs.mkdtempSync(path.join(folder, 'drive-'));
  fs.mkdirSync(path.join(drive, 'openstack', 'latest'), { recursive: true });
  fs.writeFileSync(path.join(drive, 'openstack', 'latest', 'user_data'), userData);
  fs.writeFileSync(path.join(drive, 'openstack', 'latest', 'meta_data.json'), '{"uuid":"7f6f1c53-6c7b-4c3e-9a38-0d4a2ad1c0de"}');
  return drive;
}

function userDataFor(port: number, slots = 2): string {
  const seed = {
    version: 1,
    workerId: '0d9f5f0e-52f5-4c3d-9b0e-1f0c5a3a7b11',
    hostName: 'w',
    platformId: 'p',
    clusterId: 'c',
    taskSlots: slots,
    plugin: { endpoint: `127.0.0.1:${port}`, enrolmentEndpoint: `127.0.0.1:${port}`, enrolmentToken: token },
  };
  return `#cloud-config\nwrite_files:\n- path: /etc/tidemark/worker.json\n  content: '${JSON.stringify(seed)}'\n`;
}

/** Exit code, and what was written on the console meanwhile. */
async function start(...args: string[]): Promise<{ code: number; console: string }> {
  let text = '';
  const spy = jest.spyOn(process.stderr, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  try {
    const data = fs.mkdtempSync(path.join(folder, 'data-'));
    return { code: await main(['--as-process', '--data-folder', data, '--image-version', '0.1.0-test', ...args]), console: text };
  } finally {
    spy.mockRestore();
  }
}

test('a folder that is no config drive, one without settings, and settings that cannot be used end with 3 and say so', async () => {
  const missing = await start('--config-drive', path.join(folder, 'nowhere'));
  expect(missing).toMatchObject({ code: 3, console: expect.stringContaining('[CONFIG_DRIVE_MISSING]') });
  const empty = await start('--config-drive', driveWith('#cloud-config\nuser: root\n'));
  expect(empty).toMatchObject({ code: 3, console: expect.stringContaining('[SEED_MISSING]') });
  const wrong = await start('--config-drive', driveWith(userDataFor(1, 99)));
  expect(wrong).toMatchObject({ code: 3, console: expect.stringContaining('taskSlots') });
  expect(wrong.console).toContain('[SEED_INVALID]');
  expect(wrong.console).not.toContain('planted-secret');
});

test('a plug-in that is not the one of the token is refused for good: 4, and the token stays unseen', async () => {
  const authority = await createAuthority('Somebody else');
  const { certificateChainPem, privateKeyPem } = await issueIdentity(authority, { role: 'plugin', id: 'p' }, ['127.0.0.1']);
  const server = tls.createServer({ cert: certificateChainPem, key: privateKeyPem, ALPNProtocols: ['h2'] });
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const ended = await start('--config-drive', driveWith(userDataFor((server.address() as AddressInfo).port)));
    expect(ended).toMatchObject({ code: 4, console: expect.stringContaining('[TRUST_FINGERPRINT_MISMATCH]') });
    expect(ended.console).toContain('started, image 0.1.0-test');
    expect(ended.console).not.toContain('planted-secret');
  } finally {
    server.close();
  }
});

test('wrong arguments end with 2 and the usage', async () => {
  expect(await start('--no-such-option')).toMatchObject({ code: 2, console: expect.stringContaining('usage:') });
});

test('only an ISO 9660 volume has a label', () => {
  const image = Buffer.alloc(17 * 2048);
  const file = path.join(folder, 'cd.iso');
  fs.writeFileSync(file, image);
  expect(volumeLabel(file)).toBeUndefined();
  image.write('\x01CD001\x01\x00', 16 * 2048, 'latin1');
  image.write('config-2'.padEnd(32), 16 * 2048 + 40, 'latin1');
  fs.writeFileSync(file, image);
  expect(volumeLabel(file)).toBe('config-2');
  expect(volumeLabel(path.join(folder, 'no-such-device'))).toBeUndefined();
});

test('a console line is one line, and shows an error by code and message', () => {
  const lines: string[] = [];
  const logger = consoleLogger('warn', (line) => lines.push(line));
  logger.info('not for a console that wants warnings');
  logger.warn('something\u0020ended', { error: Object.assign(new Error('gone'), { code: 'PEER_UNAVAILABLE' }), enrolmentToken: token });
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(
    /^\[ *[\d.]+\] tidemark-worker: warning: something ended error="PEER_UNAVAILABLE: gone" enrolmentToken=\[redacted\]\n$/,
  );
});
