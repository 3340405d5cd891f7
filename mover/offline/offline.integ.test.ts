import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { putDocument } from '../documents/documents';
import { Verifier } from '../maintenance/verifier';
import { packName } from '../repository/blocks/pack-table';
import { SftpShare } from '../testing/sftp-share';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { testKey, TestRepository } from '../testing/test-repository';

const block = 65_536;
const program = path.join(__dirname, 'main.js');

function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { timeout: 120_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

test('reads an encrypted repository, given a key, and says which key it needs', async () => {
  using scratch = temporaryFolder();
  await using test = await TestRepository.open(scratch.folder, { key: testKey });
  const content = new Map([[1, sampleBlock(1, block)]]);
  const before = await test.backup(3 * block, content);
  await test.repository.keys?.rotate(new Date());
  const pointId = await test.backup(3 * block, new Map([...content, [2, sampleBlock(2, block)]]), before);
  const recoveryKey = await test.repository.keys?.addRecoveryKey(randomUUID(), new Date());
  const file = (name: string, text: string) => {
    fs.writeFileSync(path.join(scratch.folder, name), `${text}\n`);
    return path.join(scratch.folder, name);
  };
  const out = path.join(scratch.folder, 'disk.raw');
  const read = (...key: string[]) =>
    run(
      ...['point', 'read', '--repository', path.join(scratch.folder, 'repository'), '--point', pointId],
      ...['--disk', 'disk', '--out', out, '--force', ...key],
    );
  const keyFile = file('key', testKey.secret.reveal());
  for (const key of [
    ['--key-file', keyFile],
    ['--recovery-key-file', file('recovery', recoveryKey?.reveal() ?? '')],
  ]) {
    expect(await read(...key)).toMatchObject({ code: 0 });
    expect(fs.readFileSync(out).equals(await test.read(pointId))).toBe(true);
    fs.rmSync(out);
  }
  expect(await read()).toMatchObject({ code: 2, stderr: expect.stringContaining('REPOSITORY_KEY_NEEDED') as string });
  const wrong = await read('--passphrase-file', file('passphrase', 'not the right passphrase'));
  expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('REPOSITORY_KEY_WRONG') as string });
  expect(await read('--key-file', keyFile, '--recovery-key-file', keyFile)).toMatchObject({ code: 2 });
  expect(fs.existsSync(out)).toBe(false);
});

test('lists and reads a repository with nothing but its folder, also while a mover holds it', async () => {
  using scratch = temporaryFolder();
  const size = 700 * block + 512;
  await using test = await TestRepository.open(scratch.folder);
  const content = new Map([
    [0, sampleBlock(1, block)],
    [512, sampleBlock(2, block)],
    [700, sampleBlock(3, 512)],
  ]);
  const image = Buffer.alloc(size);
  for (const [at, raw] of content) raw.copy(image, at * block);
  const pointId = await test.backup(size, content);
  const repository = path.join(scratch.folder, 'repository');
  const out = path.join(scratch.folder, 'disk.raw');
  const read = (...more: string[]) =>
    run('point', 'read', '--repository', repository, '--point', pointId, '--disk', 'disk', '--out', out, ...more);

  const listed = await run('list', '--repository', repository, '--json');
  expect(listed.code).toBe(0);
  expect(JSON.parse(listed.stdout)).toMatchObject({ points: [{ pointId, vmName: 'a vm', disks: [{ diskId: 'disk', sizeBytes: size }] }] });
  expect(await read()).toMatchObject({ code: 0 });
  expect(fs.readFileSync(out).equals(image)).toBe(true);
  expect(fs.statSync(out).blocks * 512).toBeLessThan(4 * block);
  expect(await read()).toMatchObject({ code: 1, stderr: expect.stringContaining('--force') as string });
  fs.writeFileSync(out, Buffer.alloc(2 * size, 0xff));
  expect(await read('--force')).toMatchObject({ code: 0 });
  expect(fs.readFileSync(out).equals(image)).toBe(true);
  fs.rmSync(out);

  expect((await run('list', '--repository', scratch.folder)).code).toBe(4);
  expect((await run('point', 'read', '--repository', repository)).code).toBe(2);
  expect((await run('read', '--repository', repository, '--point', randomUUID(), '--disk', 'x', '--out', out)).code).toBe(4);
  expect((await run('wipe', '--repository', repository)).code).toBe(2);

  // A flipped bit in the first block: refused, or left zero and named.
  const pack = path.join(repository, packName(test.repository.index.packs.idOf(0)));
  const bytes = fs.readFileSync(pack);
  bytes[64 + 1000] = (bytes[64 + 1000] as number) ^ 1;
  fs.writeFileSync(pack, bytes);
  expect(await read()).toMatchObject({ code: 1, stderr: expect.stringContaining('BLOCK_CORRUPT') as string });
  expect(fs.existsSync(out)).toBe(false);
  const kept = await read('--keep-going', '--json');
  expect(kept.code).toBe(3);
  expect(JSON.parse(kept.stdout)).toMatchObject({ damaged: [{ offsetBytes: 0 }] });
  const damaged = Buffer.from(image).fill(0, 0, block);
  expect(fs.readFileSync(out).equals(damaged)).toBe(true);

  // Stored again by a backup that carries it, once it is known to be damaged: the old point is whole.
  await new Verifier(test.repository, new AbortController().signal).run(undefined);
  await test.backup(size, content);
  expect(await read('--force')).toMatchObject({ code: 0 });
  expect(fs.readFileSync(out).equals(image)).toBe(true);
});

test('lists removed points when asked, and gives back documents of the host', async () => {
  using scratch = temporaryFolder();
  await using test = await TestRepository.open(scratch.folder, { key: testKey });
  const [kept, removed] = [await test.backup(block, new Map([[0, sampleBlock(1, block)]])), await test.backup(block, new Map())];
  await test.repository.points.tombstones.put(removed, new Date('2026-11-21T04:30:43.000Z'));
  const content = Buffer.from('what the host keeps');
  await putDocument(test.repository, { name: 'configuration/one', content }, new Date());
  const keyFile = path.join(scratch.folder, 'key');
  fs.writeFileSync(keyFile, testKey.secret.reveal());
  const at = ['--repository', path.join(scratch.folder, 'repository'), '--key-file', keyFile];
  const ids = async (...more: string[]) =>
    (JSON.parse((await run('point', 'list', ...at, '--json', ...more)).stdout) as { points: { pointId: string; removedAt?: string }[] })
      .points;
  expect(await ids()).toMatchObject([{ pointId: kept }]);
  expect(await ids('--removed')).toMatchObject([{ pointId: kept }, { pointId: removed, removedAt: '2026-11-21T04:30:43.000Z' }]);
  const out = path.join(scratch.folder, 'out');
  const read = (...point: string[]) => run('point', 'read', ...at, '--disk', 'disk', '--out', out, '--point', ...point);
  expect(await read(removed)).toMatchObject({ code: 4, stderr: expect.stringContaining('POINT_NOT_FOUND') as string });

  const listed = await run('document', 'list', ...at, '--folder', 'configuration', '--json');
  expect(JSON.parse(listed.stdout)).toMatchObject({ names: ['configuration/one'] });
  expect(await run('document', 'read', ...at, '--name', 'configuration/one', '--out', out)).toMatchObject({ code: 0 });
  expect(fs.readFileSync(out).equals(content)).toBe(true);
  expect(fs.statSync(out).mode & 0o777).toBe(0o600);
  expect((await run('document', 'read', ...at, '--name', 'configuration/one', '--out', out)).code).toBe(1);
  expect((await run('document', 'read', ...at, '--name', 'configuration/two', '--out', `${out}2`)).code).toBe(4);
  expect((await run('document', 'read', ...at, '--name', 'configuration/one')).code).toBe(2);
});

test('reads while two movers write', async () => {
  using scratch = temporaryFolder();
  await using one = await TestRepository.open(scratch.folder);
  await using two = await TestRepository.open(scratch.folder, {
    cacheFolder: path.join(scratch.folder, 'cache-2'),
    lock: { instanceId: 'test-2', leaseDurationMs: 30_000, waitMs: 0 },
  });
  const pointId = await one.backup(2 * block, new Map([[1, sampleBlock(1, block)]]));
  let done = false;
  const writing = [one, two].map(async (mover, which) => {
    for (let i = 0; !done; i++) await mover.backup(2 * block, new Map([[i % 2, sampleBlock(100 * which + i, block)]]));
  });
  const out = path.join(scratch.folder, 'disk.raw');
  const at = ['--repository', path.join(scratch.folder, 'repository')];
  try {
    for (let i = 0; i < 3; i++) {
      expect(await run('point', 'list', ...at)).toMatchObject({ code: 0, stdout: expect.stringContaining(pointId) as string });
      expect(await run('point', 'read', ...at, '--point', pointId, '--disk', 'disk', '--out', out, '--force')).toMatchObject({ code: 0 });
      expect(fs.readFileSync(out).equals(await one.read(pointId))).toBe(true);
    }
  } finally {
    done = true;
    await Promise.all(writing);
  }
});

test('reads a share that is mounted, and says when it is not', async () => {
  using scratch = temporaryFolder();
  const share = await SftpShare.start(path.join(scratch.folder, 'server'));
  const point = path.join(scratch.folder, 'mnt');
  fs.mkdirSync(point);
  share.mount(point);
  const out = path.join(scratch.folder, 'disk.raw');
  try {
    {
      await using test = await TestRepository.open(point, { cacheFolder: path.join(scratch.folder, 'cache') });
      const pointId = await test.backup(2 * block, new Map([[1, sampleBlock(1, block)]]));
      const read = () =>
        run('point', 'read', '--repository', `nfs:${point}/repository`, '--point', pointId, '--disk', 'disk', '--out', out, '--force');
      expect(await read()).toMatchObject({ code: 0 });
      expect(fs.readFileSync(out).equals(await test.read(pointId))).toBe(true);
    }
    share.unmount(point);
    expect(await run('point', 'list', '--repository', `nfs:${point}/repository`)).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('not mounted') as string,
    });
  } finally {
    await share.stop();
  }
}, 300_000);
