/** Repositories on a mounted share: OpenSSH's SFTP server and sshfs. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Secret } from '../../../common/log/redact';
import { openLocation, prepareLocation } from '../../repository/served/locations';
import { SftpShare } from '../../testing/sftp-share';
import { describeStore } from '../../testing/store-suite';
import { sampleBlock } from '../../testing/test-disk';
import { temporaryFolder, TestMover } from '../../testing/test-mover';
import { TestRepository } from '../../testing/test-repository';
import { DirectoryStore } from '../directory-store';
import { Mounter } from './mounter';
import { parseShareLocation, type RemoteShare } from './share-location';

const blockBytes = 65_536;

describe('a share', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let share: SftpShare;
  let point: string;
  beforeAll(async () => {
    scratch = temporaryFolder();
    share = await SftpShare.start(path.join(scratch.folder, 'server'));
    point = path.join(scratch.folder, 'mnt');
    fs.mkdirSync(point);
  });
  afterAll(async () => {
    await share.stop();
    scratch[Symbol.dispose]();
  });
  beforeEach(() => share.mount(point));
  afterEach(() => share.unmount(point));

  describe('does what every store does', () => {
    describeStore(async () => {
      const folder = path.join(point, randomUUID());
      fs.mkdirSync(folder);
      return new DirectoryStore(folder, { writer: 'writer' });
    });
  });

  test('keeps backups; a second mover sees them', async () => {
    const folder = path.join(point, randomUUID());
    fs.mkdirSync(folder);
    const raw = sampleBlock(1, blockBytes);
    await using one = await TestRepository.open(folder);
    const id = await one.backup(4 * blockBytes, new Map([[2, raw]]));
    await using two = await TestRepository.open(folder, {
      lock: { instanceId: 'two', leaseDurationMs: 30_000, waitMs: 0 },
      cacheFolder: path.join(scratch.folder, 'cache-two'),
    });
    expect((await two.read(id)).subarray(2 * blockBytes, 3 * blockBytes).equals(raw)).toBe(true);
  });

  test('that is not mounted is never taken for the repository, nor written to', async () => {
    const location = `nfs:${point}/folder`;
    const { store } = await prepareLocation(location, {});
    await store.put('tidemark-repository', Buffer.from('x'));
    expect(store.location).toBe(location);
    await store.close();
    share.unmount(point);
    try {
      await expect(openLocation(location, {})).rejects.toMatchObject({
        code: 'REPOSITORY_NOT_FOUND',
        message: expect.stringMatching(/its share is not mounted \(.* is \w+\); mount it/) as unknown,
      });
      await expect(prepareLocation(location, {})).rejects.toMatchObject({ code: 'REPOSITORY_LOCATION_INVALID' });
      await expect(openLocation(`smb:${scratch.folder}/nowhere`, {})).rejects.toMatchObject({ code: 'REPOSITORY_NOT_FOUND' });
      expect(fs.readdirSync(point)).toEqual([]);
    } finally {
      share.mount(point);
    }
    const again = await openLocation(location, {});
    expect((await again.readWhole('tidemark-repository', 9)).toString()).toBe('x');
    await again.close();
  });

  test('that goes away under a store fails its writes, and leaves the mount point empty; mounted again, they go on', async () => {
    const folder = path.join(point, randomUUID());
    fs.mkdirSync(folder);
    for (const landmark of [undefined, 'tidemark-repository']) {
      // The share's root is the folder itself: the path stays, what it leads to does not.
      const store = new DirectoryStore(point, { writer: 'writer', ...(landmark && { landmark }) });
      await store.put('tidemark-repository', Buffer.from('x'));
      share.unmount(point);
      await expect(store.put('points/a', Buffer.from('a'))).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
      await expect(store.put('points/a', Buffer.from('a'))).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
      await expect(store.create('packs/a')).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
      await expect(store.putNew('writers/a', Buffer.from('a'))).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
      expect(fs.readdirSync(point)).toEqual([]);
      share.mount(point);
      if (landmark) await store.put('points/a', Buffer.from('a'));
      await store.close();
    }
  });

  describe('that the mover mounts', () => {
    const access = { accessKeyId: 'DOMAIN\\backup', secretAccessKey: new Secret('a secret, with comma') };
    const data = () => path.join(scratch.folder, 'data', randomUUID());
    const remote = (location: string) => parseShareLocation(location) as RemoteShare;

    test('is mounted once for all who use it, with a file of credentials that is gone afterwards', async () => {
      const [folder, record] = [data(), path.join(scratch.folder, randomUUID())];
      const mounter = new Mounter(folder, { mount: share.mountProgram(record) });
      fs.mkdirSync(path.join(share.exported, 'sub'), { recursive: true });
      const mounts = await Promise.all([
        mounter.mount(remote('smb://nas/share/sub?version=3.1.1'), access),
        mounter.mount(remote('smb://nas/share/sub?version=3.1.1'), access),
        mounter.mount(remote('smb://nas/share?version=3.1.1'), access),
      ]);
      const called = fs.readFileSync(record, 'utf8').split('\n');
      expect(called[0]).toMatch(
        /^-t cifs -o nosuid,nodev,noexec,.*soft,echo_interval=20,.*file_mode=0600,dir_mode=0700,credentials=\S+,vers=3.1.1 \/\/nas\/share \S+$/,
      );
      expect(called.slice(1)).toEqual(['600', 'username=backup', 'password=a secret, with comma', 'domain=DOMAIN', '']);
      expect(fs.readdirSync(path.join(folder, 'mounts'))).toHaveLength(1);
      fs.writeFileSync(path.join(mounts[0]?.folder ?? '', 'file'), 'x');
      expect(fs.readFileSync(path.join(share.exported, 'sub', 'file'), 'utf8')).toBe('x');
      for (const mount of mounts) {
        expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).toContain(folder);
        await mount.release();
        await mount.release();
      }
      expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
      expect(fs.readdirSync(path.join(folder, 'mounts'))).toEqual([]);
    });

    test('and that a mover which was killed left mounted is mounted anew', async () => {
      const [folder, record] = [data(), path.join(scratch.folder, randomUUID())];
      const mount = () => new Mounter(folder, { mount: share.mountProgram(record) }).mount(remote('nfs:nas:/export'), undefined);
      await mount();
      const again = await mount();
      expect(fs.readFileSync(record, 'utf8').trim().split('\n')).toEqual([
        expect.stringMatching(/^-t nfs -o .*softerr,timeo=200,retrans=2,lookupcache=positive,retry=0 nas:\/export /),
        expect.stringMatching(/^-t nfs /),
      ]);
      await again.release();
      expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
    });

    test('the same where nobody gets an answer from what was left mounted', async () => {
      const folder = data();
      const mounting = () =>
        new Mounter(folder, { mount: share.mountProgram(path.join(scratch.folder, randomUUID())) }).mount(
          remote('nfs:nas:/export'),
          undefined,
        );
      const left = await mounting();
      share.breakMount(left.folder);
      expect(() => fs.statSync(left.folder)).toThrow();
      const again = await mounting();
      fs.writeFileSync(path.join(again.folder, 'after'), 'x');
      await again.release();
      expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
    });

    test('leaves nothing mounted where mount fails after all, as when it took too long', async () => {
      const [folder, late] = [data(), path.join(scratch.folder, randomUUID())];
      fs.writeFileSync(late, `#!/bin/sh\n'${share.mountProgram(path.join(scratch.folder, randomUUID()))}' "$@"\nexit 137\n`, {
        mode: 0o755,
      });
      const mounter = new Mounter(folder, { mount: late });
      for (let attempt = 0; attempt < 2; attempt++)
        await expect(mounter.mount(remote('nfs:nas:/export'), undefined)).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
      expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
      expect(fs.readdirSync(path.join(folder, 'mounts'))).toEqual([]);
    });

    test('that somebody mounts while the last user lets go stays mounted for the new one', async () => {
      const [folder, mount, umount, done] = [data(), ...Array.from({ length: 3 }, () => path.join(scratch.folder, randomUUID()))] as const;
      const script = (file: string, ...lines: string[]) => fs.writeFileSync(file, ['#!/bin/sh', ...lines, ''].join('\n'), { mode: 0o755 });
      script(mount!, `'${share.mountProgram(path.join(scratch.folder, randomUUID()))}' "$@" && echo done >> '${done}'`);
      // The first one unmounts when somebody has mounted after it, unless nobody does for two seconds.
      script(
        umount!,
        'if mkdir "$0.first" 2> /dev/null; then',
        `  for i in $(seq 20); do if [ "$(wc -l < '${done}')" -ge 2 ]; then break; fi; sleep 0.1; done`,
        'fi',
        'exec umount "$@"',
      );
      const mounter = new Mounter(folder, { mount: mount!, umount: umount! });
      const before = await mounter.mount(remote('nfs:nas:/export'), undefined);
      const released = before.release();
      while (!fs.existsSync(`${umount!}.first`)) await new Promise((resolve) => setTimeout(resolve, 10));
      const after = await mounter.mount(remote('nfs:nas:/export'), undefined);
      await released;
      fs.writeFileSync(path.join(after.folder, 'of-the-second'), 'x');
      expect(fs.existsSync(path.join(share.exported, 'of-the-second'))).toBe(true);
      await after.release();
      expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
    });

    test.each([
      [3_000, 'timeo=10,', 'echo_interval=1,'],
      [60_000, 'timeo=200,', 'echo_interval=20,'],
    ])('waits for a server that does not answer as long as it is told: %d ms', async (patienceMs, nfs, smb) => {
      const record = path.join(scratch.folder, randomUUID());
      const mounter = new Mounter(data(), { patienceMs, mount: share.mountProgram(record) });
      for (const location of ['nfs:nas:/export', 'smb://nas/share']) await (await mounter.mount(remote(location), access)).release();
      const called = fs
        .readFileSync(record, 'utf8')
        .split('\n')
        .filter((line) => line.startsWith('-t '));
      expect(called).toEqual([expect.stringContaining(nfs), expect.stringContaining(smb)]);
    });

    test.each([
      ['smb://127.0.0.1/share', { code: 'REPOSITORY_LOCATION_INVALID' }],
      ['nfs:127.0.0.1:/export', { code: 'REPOSITORY_LOCATION_INVALID' }],
    ])('%s says what to do where neither helper nor kernel can mount it', async (location, expected) => {
      const failing = path.join(scratch.folder, randomUUID());
      fs.writeFileSync(
        failing,
        '#!/bin/sh\necho "mount: /x: bad option; for several filesystems you might need a /sbin/mount.<type> helper program." >&2\nexit 32\n',
        {
          mode: 0o755,
        },
      );
      const folder = data();
      const mounting = new Mounter(folder, { mount: failing }).mount(remote(location), access);
      await expect(mounting).rejects.toMatchObject({
        ...expected,
        message: expect.stringMatching(/install it, or mount it yourself/) as unknown,
      });
      expect(fs.readdirSync(path.join(folder, 'mounts')).filter((name) => name.includes('credentials'))).toEqual([]);
    });

    test.each([
      ['mount error(13): Permission denied', 'REPOSITORY_ACCESS_DENIED'],
      ['mount error(2): No such file or directory', 'REPOSITORY_LOCATION_INVALID'],
      ['mount error(1): Operation not permitted', 'REPOSITORY_LOCATION_INVALID'],
      ['mount.nfs: access denied by server while mounting nas:/export', 'REPOSITORY_ACCESS_DENIED'],
      ['mount.nfs: Connection refused', 'REPOSITORY_IO'],
      ['mount error(113): could not connect to 10.0.0.1', 'REPOSITORY_IO'],
      ["mount: unknown filesystem type 'nfs'.", 'REPOSITORY_LOCATION_INVALID'],
    ])('"%s" becomes %s', async (said, code) => {
      const failing = path.join(scratch.folder, randomUUID());
      fs.writeFileSync(failing, `#!/bin/sh\necho "${said}" >&2\nexit 32\n`, { mode: 0o755 });
      const mounting = new Mounter(data(), { mount: failing }).mount(remote('smb://nas/share'), access);
      await expect(mounting).rejects.toMatchObject({ code });
    });
  });

  test('holds a repository of a whole mover, under its own kind of location', async () => {
    const mover = await TestMover.start(path.join(scratch.folder, randomUUID()));
    try {
      const call = (location: string) =>
        mover.repositories.call(
          'CreateRepository',
          { requestId: randomUUID(), location, settings: { blockSizeBytes: blockBytes } },
          { deadlineMs: 120_000 },
        );
      const made = await call(`smb:${point}/whole/`);
      expect(made.repository?.location).toBe(`smb:${point}/whole`);
      await expect(call('smb://nas/share')).rejects.toMatchObject({ code: 'REPOSITORY_ACCESS_MISSING' });
      await expect(call(`nfs:${scratch.folder}/local`)).rejects.toMatchObject({ code: 'REPOSITORY_LOCATION_INVALID' });
      expect(fs.existsSync(path.join(scratch.folder, 'local'))).toBe(false);
    } finally {
      await mover.stop();
    }
  });
});
