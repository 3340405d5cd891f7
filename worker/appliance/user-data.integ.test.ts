/**
 * The same config drives for cloud-init (Debian's package, its own code) and for our reader: what ours takes it must take as cloud-init does, byte by
 * byte; what it does not take it must refuse. The differences that are meant are in docs/operations/worker-image.md.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { seedPath } from '../../common/appliance/seed';
import { readConfigDriveFolder } from './config-drive';
import { metaData, readWithCloudInit } from './testing/cloud-init';
import type { CloudInitAnswer, DriveCase } from './testing/cloud-init';
import { seedFile } from './user-data';

const latest = 'openstack/latest';
const drive = (userData: string | Uint8Array, more: DriveCase['files'] = {}): DriveCase['files'] => ({
  [`${latest}/meta_data.json`]: metaData,
  [`${latest}/user_data`]: userData,
  ...more,
});

/** As the engine writes it. */
const engineKeys = [
  '#cloud-config',
  'disable_root: false',
  'ssh_pwauth: true',
  'user: root',
  'chpasswd:',
  '  expire: false',
  'output:',
  "  all: '>> /var/log/cloud-init-output.log'",
  'runcmd:',
  "- 'sed -i ''/^datasource_list: /d'' /etc/cloud/cloud.cfg'",
  '',
].join('\n');
const json = '{"version":1,"name":"Zoe"}';
const base64 = (content: string | Buffer) => Buffer.from(content).toString('base64');
const entry = (fields: Readonly<Record<string, unknown>>) => ({ path: seedPath, permissions: '0600', content: json, ...fields });
const files = (...entries: readonly unknown[]) => `${engineKeys}${stringify({ write_files: entries })}`;
const vendorData = (content: string): DriveCase['files'] => ({
  [`${latest}/vendor_data.json`]: JSON.stringify({ 'cloud-init': `#cloud-config\n${stringify({ write_files: [entry({ content })] })}` }),
});
const script = '#!/bin/sh\ntouch /tmp/should-not-be\n';
const mime = (...parts: readonly string[]) =>
  `MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="=="\n\n${parts.map((part) => `--==\nContent-Type: text/cloud-config\n\n${part}\n`).join('')}--==--\n`;

const alike: Readonly<Record<string, DriveCase['files']>> = {
  'the engine’s, and ours as text': drive(
    `${engineKeys}write_files:\n- path: ${seedPath}\n  permissions: '0600'\n  content: |\n    ${json}\n`,
  ),
  'letters beyond ASCII': drive(files(entry({ content: 'Zoë 漢字 😀' }))),
  'no content': drive(files(entry({ content: undefined }))),
  'text/plain': drive(files(entry({ encoding: 'text/plain' }))),
  b64: drive(files(entry({ encoding: 'b64', content: base64(json) }))),
  'base64 in lines': drive(files(entry({ encoding: ' Base64 ', content: base64(json.repeat(9)).replace(/.{76}/g, '$&\n') }))),
  'gz+b64': drive(files(entry({ encoding: 'gz+b64', content: base64(gzipSync(json)) }))),
  'gzip of binary': drive(
    `${engineKeys}write_files: [{path: ${seedPath}, encoding: gzip, content: !!binary "${base64(gzipSync(json))}"}]\n`,
  ),
  'an encoding in the wrong order is text': drive(files(entry({ encoding: 'b64+gz' }))),
  'an unknown encoding is text': drive(files(entry({ encoding: 'rot13' }))),
  'a file that grows': drive(
    files(entry({ content: '{' }), entry({ append: true, content: '"a"' }), entry({ append: 'yes', content: ':1}' })),
  ),
  'a file that is written twice': drive(files(entry({ content: 'first' }), entry({}))),
  'a deferred file comes last': drive(files(entry({ defer: true, content: 'late' }), entry({}))),
  'a key that stands twice': drive(`${engineKeys}write_files: []\n${stringify({ write_files: [entry({})] })}`),
  'a path by another way': drive(files(entry({ path: '/etc//tidemark/../tidemark/worker.json' }))),
  'an entry without a path': drive(files({ content: 'x' }, entry({}))),
  'unknown keys': drive(`${engineKeys}no_such_key: {deep: [1]}\n${stringify({ write_files: [entry({})] })}`),
  'unknown keys of a file': drive(files(entry({ whatever: 1 }))),
  'YAML anchors and merges': drive(`#cloud-config\nbase: &b\n  path: ${seedPath}\nwrite_files:\n- <<: *b\n  content: merged\n`),
  'YAML 1.1 words': drive(
    `#cloud-config\nwrite_files:\n- {path: ${seedPath}, content: a}\n- {path: ${seedPath}, content: b, append: on}\n`,
  ),
  'line ends of Windows': drive(files(entry({})).replace(/\n/g, '\r\n')),
  'blank lines before the head': drive(`\n\n${files(entry({}))}`),
  'a head in capitals': drive(files(entry({})).replace('#cloud-config', '#CLOUD-CONFIG')),
  'all of it as gzip': drive(gzipSync(files(entry({})))),
  'a dated version of the drive': {
    ...drive(files(entry({ content: 'latest' }))),
    'openstack/2018-08-27/meta_data.json': metaData,
    'openstack/2018-08-27/user_data': files(entry({ content: 'dated' })),
  },
  'vendor data beside it': drive(files(entry({})), vendorData('vendor')),
};

const refusedByBoth: Readonly<Record<string, DriveCase['files']>> = {
  'an empty drive': {},
  'no user data': { [`${latest}/meta_data.json`]: metaData },
  'no meta data': { [`${latest}/user_data`]: files(entry({})) },
  'meta data that is not JSON': drive(files(entry({})), { [`${latest}/meta_data.json`]: '{' }),
  'empty user data': drive(''),
  'no head': drive(files(entry({})).replace('#cloud-config\n', '')),
  'a byte order mark': drive(`\uFEFF${files(entry({}))}`),
  'a list': drive('#cloud-config\n- a\n'),
  'no YAML': drive('#cloud-config\nwrite_files: [\n'),
  'no file of ours': drive(files(entry({ path: '/etc/other' }))),
  'files that are no list': drive('#cloud-config\nwrite_files: text\n'),
  'a content that is a number': drive(files(entry({ content: 7 }))),
  'a content that is null': drive(files(entry({ content: null }))),
  'broken base64': drive(files(entry({ encoding: 'b64', content: 'abcde' }))),
  'gzip that is none': drive(files(entry({ encoding: 'gz', content: 'plain' }))),
  'a broken entry before ours': drive(files(entry({ path: '/etc/other', encoding: 'b64', content: 'abcde' }), entry({}))),
  'an archive': drive('#cloud-config-archive\n[]\n'),
  'a script': drive(script),
  'a script at each start': drive(`#cloud-boothook\n${script}`),
  'a part handler': drive('#part-handler\ndef list_types():\n  return []\n'),
  'addresses to fetch': drive('#include\nhttp://192.0.2.1/user-data\n'),
};

/** cloud-init takes these. */
const refusedByOurs: Readonly<Record<string, readonly [files: DriveCase['files'], says: string]>> = {
  'a MIME message': [drive(mime(files(entry({})))), 'a MIME message'],
  'an archive of cloud-config': [drive(`#cloud-config-archive\n${stringify([files(entry({}))])}`), 'an archive of several'],
  'a template': [drive(`## template: jinja\n${files(entry({}))}`), 'a template'],
  'vendor data alone': [drive('', vendorData(json)), 'no known format'],
  'base64 with letters that are none': [drive(files(entry({ encoding: 'b64', content: `-${base64(json)}` }))), 'not base64'],
};

/** What goes wrong in practice is rare in it, so that most of them are read by both. */
const generatedEntry = fc
  .record({
    path: fc.constantFrom(seedPath, seedPath, seedPath, '/etc/other', '', '/etc//tidemark/./worker.json'),
    text: fc.oneof(fc.json(), fc.string({ unit: 'binary', maxLength: 40 }), fc.constantFrom('yes', '0600', '1e3', 'a: b', '# no comment')),
    encoding: fc.constantFrom(undefined, '', 'text/plain', 'b64', 'BASE64', 'gz+b64', 'gzip+base64 ', 'gzip', 'utf-8'),
    honest: fc.integer({ min: 0, max: 19 }).map((roll) => roll > 0),
    permissions: fc.constantFrom(undefined, '0600', '0o644', 600, 'rw'),
    append: fc.constantFrom(undefined, false, true, 'yes', 'on', 'true', 'no', 1),
    defer: fc.constantFrom(undefined, undefined, undefined, true, 'True', false),
    owner: fc.constantFrom(undefined, 'root:root', 'nobody'),
  })
  .map(({ text, honest, ...rest }) => {
    const encoding = (rest.encoding ?? '').toLowerCase();
    const bytes = Buffer.from(text);
    const packed = honest && encoding.startsWith('g') ? gzipSync(bytes) : bytes;
    const content = encoding.includes('b')
      ? honest
        ? base64(packed)
        : 'abcde'
      : packed.toString('latin1') === text
        ? text
        : Uint8Array.from(packed);
    return Object.fromEntries(Object.entries({ ...rest, content }).filter(([, value]) => value !== undefined));
  });
const generated = fc
  .sample(fc.array(generatedEntry, { minLength: 1, maxLength: 4 }), { seed: 20261121, numRuns: 80 })
  .map((entries, index) =>
    // YAML in its several styles, with quotes and without.
    drive(
      `${engineKeys}${stringify({ write_files: entries }, { version: index % 2 === 0 ? '1.1' : '1.2', defaultStringType: index % 3 === 0 ? 'QUOTE_DOUBLE' : 'PLAIN' })}`,
    ),
  );

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-config-drives-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

/** The seed's bytes as ours finds them, or why not. */
function readByUs(tree: DriveCase['files']): Buffer | Error {
  const place = fs.mkdtempSync(path.join(folder, 'drive-'));
  for (const [name, content] of Object.entries(tree)) {
    fs.mkdirSync(path.dirname(path.join(place, name)), { recursive: true });
    fs.writeFileSync(path.join(place, name), content);
  }
  try {
    return seedFile(readConfigDriveFolder(place).userData);
  } catch (error) {
    return error as Error;
  }
}

/** What a start with cloud-init ends with: undefined when it would say that something failed. */
const writtenBy = (answer: CloudInitAnswer | undefined) => (answer?.problem === null ? answer.written[seedPath] : undefined);

describe('user data', () => {
  const trees = [
    ...Object.values(alike),
    ...Object.values(refusedByBoth),
    ...Object.values(refusedByOurs).map(([tree]) => tree),
    ...generated,
  ];
  const answers = new Map<DriveCase['files'], CloudInitAnswer>();

  beforeAll(() => {
    for (const [index, answer] of readWithCloudInit(trees.map((tree) => ({ files: tree }))).entries())
      answers.set(trees[index] ?? {}, answer);
  });

  test.each(Object.entries(alike))('%s: the same bytes', (_name, tree) => {
    const expected = writtenBy(answers.get(tree));
    expect(expected).toBeInstanceOf(Buffer);
    expect(String(readByUs(tree))).toBe(String(expected));
    expect(readByUs(tree)).toEqual(expected);
  });

  test.each(Object.entries(refusedByBoth))('%s: no settings for either', (_name, tree) => {
    expect(writtenBy(answers.get(tree))).toBeUndefined();
    expect(readByUs(tree)).toMatchObject({ code: expect.stringMatching(/^(CONFIG_DRIVE_MISSING|SEED_MISSING|SEED_INVALID)$/) });
  });

  test.each(Object.entries(refusedByOurs))('%s: cloud-init takes it, ours says that it does not', (_name, [tree, says]) => {
    expect(String(writtenBy(answers.get(tree)))).toBe(json);
    expect(readByUs(tree)).toMatchObject({ code: expect.stringMatching(/^SEED_/), message: expect.stringContaining(says) });
  });

  test('generated write_files: the same bytes, or no settings for either', () => {
    let read = 0;
    for (const tree of generated) {
      const [expected, ours] = [writtenBy(answers.get(tree)), readByUs(tree)];
      if (expected !== undefined) read++;
      expect({ tree, ours: ours instanceof Error ? undefined : ours.toString('latin1') }).toEqual({
        tree,
        ours: expected?.toString('latin1'),
      });
    }
    expect(read).toBeGreaterThan(generated.length / 3);
  });

  test('what would be run or fetched was not empty talk', () => {
    const runs = (name: string) => answers.get(refusedByBoth[name] ?? {})?.runs;
    expect([runs('a script at each start'), runs('a part handler'), runs('addresses to fetch')]).toEqual([
      ['command'],
      ['part-handler'],
      ['fetch'],
    ]);
  });

  test('`cloud-init schema` finds nothing against what the plug-in and the engine write', () => {
    expect(answers.get(alike['the engine’s, and ours as text'] ?? {})?.schema).toBeNull();
    expect(answers.get(alike['unknown keys of a file'] ?? {})?.schema).toContain('whatever');
  });
});
