/** Another password for a share that is in use: what stands for mount(8) refuses a wrong one, as a server does. */
import fs from 'node:fs';
import path from 'node:path';
import { Secret } from '../../../common/log/redact';
import { SftpShare } from '../../testing/sftp-share';
import { temporaryFolder } from '../../testing/test-mover';
import { Mounter } from './mounter';
import { parseShareLocation, type RemoteShare } from './share-location';

const location = parseShareLocation('smb://nas/share') as RemoteShare;
const access = (secret: string) => ({ accessKeyId: 'DOMAIN\\backup', secretAccessKey: new Secret(secret) });

test('another password is tried beside the mount that is in use, which stays as it is', async () => {
  using scratch = temporaryFolder();
  const share = await SftpShare.start(path.join(scratch.folder, 'server'));
  const [record, mount] = [path.join(scratch.folder, 'record'), path.join(scratch.folder, 'mount')];
  const refusing = [
    '#!/bin/sh -e',
    `file=$(printf '%s' "$4" | tr , '\\n' | sed -n 's/^credentials=//p')`,
    `if grep -q '^password=planted-wrong$' "$file"; then echo 'mount error(13): Permission denied' >&2; exit 32; fi`,
    `exec '${share.mountProgram(record)}' "$@"`,
    '',
  ];
  fs.writeFileSync(mount, refusing.join('\n'), { mode: 0o755 });
  const mounter = new Mounter(path.join(scratch.folder, 'data'), { mount });
  const mounts = () => fs.readdirSync(path.join(scratch.folder, 'data', 'mounts'));
  const called = () => fs.readFileSync(record, 'utf8').match(/^-t cifs/gm)?.length;

  const first = await mounter.mount(location, access('one'));
  fs.writeFileSync(path.join(first.folder, 'file'), 'x');
  await expect(mounter.mount(location, access('planted-wrong'))).rejects.toMatchObject({ code: 'REPOSITORY_ACCESS_DENIED' });
  expect([called(), mounts()]).toEqual([1, [path.basename(first.folder)]]);
  const second = await mounter.mount(location, access('two'));
  expect([called(), mounts(), second.folder]).toEqual([2, [path.basename(first.folder)], first.folder]);
  // On a connection of its own: the server has to be asked.
  expect(fs.readFileSync(record, 'utf8').match(/^-t cifs .*$/gm)).toEqual([
    expect.not.stringContaining('nosharesock'),
    expect.stringMatching(/^-t cifs -o \S*,nosharesock /),
  ]);
  // It is known now, and not tried again.
  const third = await mounter.mount(location, access('two'));
  expect(called()).toBe(2);
  expect(fs.readFileSync(path.join(share.exported, 'file'), 'utf8')).toBe('x');
  for (const one of [first, second, third]) await one.release();
  expect(mounts()).toEqual([]);
  await share.stop();
});
