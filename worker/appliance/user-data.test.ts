import { gzipSync } from 'node:zlib';
import { seedFromUserData } from './user-data';

const token = 'tmk1.planted-secret-0123456789.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';
const seed = {
  version: 1,
  workerId: '0d9f5f0e-52f5-4c3d-9b0e-1f0c5a3a7b11',
  hostName: 'tidemark-worker-01',
  platformId: 'p',
  clusterId: 'c',
  taskSlots: 4,
  plugin: { endpoint: 'backup.example.com:8446', enrolmentEndpoint: '[2001:db8::1]:8448', enrolmentToken: token },
};

/** As the engine writes it: its own keys, then the custom script as text. */
const engineKeys = [
  '#cloud-config',
  'disable_root: false',
  'ssh_pwauth: true',
  'user: root',
  'chpasswd:',
  '  expire: false',
  "ssh_deletekeys: 'True'",
  'output:',
  "  all: '>> /var/log/cloud-init-output.log'",
  'runcmd:',
  "- 'sed -i ''/^datasource_list: /d'' /etc/cloud/cloud.cfg; echo ''datasource_list: [\"NoCloud\"]'' >> /etc/cloud/cloud.cfg'",
  '',
].join('\n');

const withFile = (content: string, encoding?: string) =>
  `${engineKeys}write_files:\n- path: /etc/tidemark/worker.json\n  permissions: '0600'\n${encoding === undefined ? '' : `  encoding: ${encoding}\n`}  content: ${content}\n`;

const json = JSON.stringify(seed);
const base64 = (bytes: Buffer) => bytes.toString('base64');

test.each([
  ['text', withFile(`|\n${JSON.stringify(seed, null, 2).replace(/^/gm, '    ')}`)],
  ['text/plain', withFile(`'${json}'`, 'text/plain')],
  ['b64', withFile(base64(Buffer.from(json)), 'b64')],
  ['base64', withFile(base64(Buffer.from(json)), 'base64')],
  ['gz+b64', withFile(base64(gzipSync(json)), 'gz+b64')],
  ['gzip+base64', withFile(base64(gzipSync(json)), 'gzip+base64')],
  ['gzip of YAML binary', withFile(`!!binary ${base64(gzipSync(json))}`, 'gzip')],
])('the seed is found as %s', (_name, userData) => {
  const found = seedFromUserData(Buffer.from(userData));
  expect(found.workerId).toBe(seed.workerId);
  expect(found.plugin.enrolmentToken).toBe(token);
  expect(found.interfaces).toEqual([]);
});

test('a key that stands twice counts by its later place', () => {
  const early = 'write_files:\n- path: /etc/other\n  content: x\n';
  expect(seedFromUserData(Buffer.from(`#cloud-config\n${early}runcmd: [a]\n${withFile(`'${json}'`)}`)).workerId).toBe(seed.workerId);
});

test.each([
  ['no file of ours', engineKeys, 'SEED_MISSING'],
  ['no cloud-config', '#!/bin/sh\necho', 'SEED_MISSING'],
  ['nothing', '', 'SEED_MISSING'],
  ['broken YAML', `${engineKeys}write_files: [ {{ ${token}`, 'SEED_INVALID'],
  ['broken JSON', withFile(`'{ "enrolmentToken": "${token}'`), 'SEED_INVALID'],
  ['base64 with letters that are none', withFile(`'${base64(Buffer.from(json))}-'`, 'b64'), 'SEED_INVALID'],
  ['write_files that is no list', `${engineKeys}write_files: ${token}\n`, 'SEED_INVALID'],
  ['gzip that is none', withFile(base64(Buffer.from(json)), 'gz+b64'), 'SEED_INVALID'],
  ['an unknown field', withFile(`'${JSON.stringify({ ...seed, [token]: 1 })}'`.replaceAll(token, 'x')), 'SEED_INVALID'],
  ['too many slots', withFile(`'${JSON.stringify({ ...seed, taskSlots: 99 })}'`), 'SEED_INVALID'],
])('%s is refused, and the token is not quoted', (_name, userData, code) => {
  expect.assertions(2);
  try {
    seedFromUserData(Buffer.from(userData));
  } catch (error) {
    expect(error).toMatchObject({ code });
    expect(String(error) + String((error as Error).cause)).not.toContain('planted-secret');
  }
});
