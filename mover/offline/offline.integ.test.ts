import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { packName } from '../repository/pack-table';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { testKey, TestRepository } from '../testing/test-repository';

const block = 65_536;
const program = path.join(__dirname, 'main.js');

function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { timeout: 20_000 }, (error, stdout, stderr) =>
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
  image.fill(0, 0, block);
  expect(fs.readFileSync(out).equals(image)).toBe(true);
});
