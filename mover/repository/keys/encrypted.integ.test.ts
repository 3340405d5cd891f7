import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { Secret } from '../../../common/log/redact';
import { Verifier } from '../../maintenance/verifier';
import { randomFrom, sampleBlock } from '../../testing/test-disk';
import { temporaryFolder } from '../../testing/test-mover';
import { pointDraft, quiet, testKey, TestRepository } from '../../testing/test-repository';
import { DirectoryStore } from '../../stores/directory-store';
import { Repository } from '../repository';
import type { SlotSecret } from './repository-keys';

const block = 65_536;
const sizeBytes = 20 * block;
const keyOf = (digit: string): SlotSecret => ({ kind: 'key-file', secret: new Secret(digit.repeat(64)) });

/** Everything that lies in the repository below a folder, leases apart. */
function objects(folder: string): string[] {
  const root = path.join(folder, 'repository');
  return fs
    .readdirSync(root, { recursive: true, encoding: 'utf8' })
    .map((name) => path.join(root, name))
    .filter((file) => fs.statSync(file).isFile() && !file.endsWith('.lease'));
}

async function findings(repository: Repository): Promise<string[]> {
  const verifier = new Verifier(repository, new AbortController().signal);
  await verifier.run(undefined);
  return verifier.findings.map((finding) => finding.code);
}

function openForReading(folder: string, cache: string): Promise<Repository> {
  return Repository.open(new DirectoryStore(path.join(folder, 'repository')), { cacheFolder: cache, logger: quiet, key: testKey });
}

const planted = { vm: 'planted-name-of-a-vm', password: 'planted-cloud-init-password', content: 'planted content of a block' };

/** One point with planted names, configuration and content; digests of its blocks. */
async function makePlanted(folder: string): Promise<{ pointId: string; digests: Buffer[] }> {
  await using test = await TestRepository.open(folder, { key: testKey, packTargetBytes: 300_000 });
  const session = await test.openSession();
  const draft = await test.openDisk(session, 'disk', sizeBytes);
  const digests: Buffer[] = [];
  for (let i = 0; i < 12; i++) {
    const raw = sampleBlock(i + 1, block);
    raw.write(planted.content, 1000 * i);
    digests.push(test.digestOf(raw));
    await test.send(draft, i, raw, session);
  }
  await test.commitDisk(session, draft);
  const pointId = randomUUID();
  const point = { ...pointDraft(pointId, [{ diskId: 'disk', sizeBytes }]), vmName: planted.vm };
  await session.commit(point, `{"ovf":"password: ${planted.password}"}`);
  // A session that is open: its record lies there too.
  const open = await test.openSession([pointId]);
  expect(open.state).toBe('open');
  return { pointId, digests };
}

describe('an encrypted repository', () => {
  const scratch = temporaryFolder();
  let made: Awaited<ReturnType<typeof makePlanted>>;
  beforeAll(async () => {
    made = await makePlanted(scratch.folder);
  });
  afterAll(() => scratch[Symbol.dispose]());

  test('gives no name, configuration, content or digest away', async () => {
    const files = objects(scratch.folder);
    expect(files.length).toBeGreaterThan(5);
    const secrets = [...Object.values(planted).map((text) => Buffer.from(text)), ...made.digests, testKey.secret.reveal(), 'digestKey'];
    // What is compressed hides its words, not that it is a zstd frame.
    const zstdMagic = Buffer.from('28b52ffd', 'hex');
    for (const file of files) {
      const content = fs.readFileSync(file);
      expect([path.basename(file), !file.endsWith('.pack') && content.includes(zstdMagic)]).toEqual([path.basename(file), false]);
      for (const secret of secrets)
        expect([path.basename(file), secret, content.includes(secret)]).toEqual([path.basename(file), secret, false]);
    }
    using cache = temporaryFolder();
    const repository = await openForReading(scratch.folder, cache.folder);
    expect((await repository.points.readWhole(made.pointId)).configuration).toContain(planted.password);
    expect(await findings(repository)).toEqual([]);
    await repository.close();
  });

  test('a flipped bit in any object is found', async () => {
    const random = randomFrom(20261121);
    for (const file of objects(scratch.folder)) {
      const whole = fs.readFileSync(file);
      for (let round = 0; round < 4; round++) {
        const damaged = Buffer.from(whole);
        const at = Math.floor(random() * whole.length);
        damaged[at] = (damaged[at] as number) ^ (1 << Math.floor(random() * 8));
        fs.writeFileSync(file, damaged);
        using cache = temporaryFolder();
        let found: string[];
        try {
          const repository = await openForReading(scratch.folder, cache.folder);
          found = await findings(repository);
          await repository.close();
        } catch (error) {
          if (!isTidemarkError(error)) throw error;
          found = [error.code];
        }
        fs.writeFileSync(file, whole);
        expect([file, at, found.length > 0]).toEqual([file, at, true]);
      }
    }
  });

  test('without the header’s mark nothing is read, and with a lost copy of the keys the next owner makes one', async () => {
    const copy = objects(scratch.folder).find((file) => file.endsWith('.copy')) as string;
    const keys = copy.replace(/copy$/, 'keys');
    fs.rmSync(copy);
    await (await TestRepository.open(scratch.folder, { key: testKey })).close();
    expect(fs.readFileSync(copy).equals(fs.readFileSync(keys))).toBe(true);
    fs.rmSync(keys);
    await (await TestRepository.open(scratch.folder, { key: testKey })).close();
    expect(fs.readFileSync(copy).equals(fs.readFileSync(keys))).toBe(true);
  });
});

test('cut off at any step of a rotation or a change of keys, everything is readable and goes on', async () => {
  using whole = temporaryFolder();
  using copies = temporaryFolder();
  const remains: string[] = [];
  let watching = false;
  const step = () => {
    if (!watching) return;
    const folder = path.join(copies.folder, String(remains.length));
    fs.cpSync(whole.folder, folder, { recursive: true });
    fs.rmSync(path.join(folder, 'repository', 'writers'), { recursive: true, force: true });
    remains.push(folder);
  };
  const contentOf = (seed: number) => new Map([...Array(10).keys()].map((i) => [i, sampleBlock(seed + i, block)]));
  const imageOf = (seed: number) => Buffer.concat([...contentOf(seed).values(), Buffer.alloc(10 * block)]);
  const test = await TestRepository.open(whole.folder, { key: testKey, step });
  const first = await test.backup(sizeBytes, contentOf(1));
  const slotId = randomUUID();
  const { keys } = test.repository;
  watching = true;
  await keys?.rotate(new Date());
  await keys?.addSlot(slotId, keyOf('d'), new Date());
  const second = await test.backup(sizeBytes, contentOf(100));
  await keys?.rotate(new Date());
  await keys?.removeSlot(slotId);
  watching = false;
  expect(keys?.ringSize).toBe(3);
  await test.close();
  expect(remains.length).toBeGreaterThan(15);
  for (const folder of remains) {
    await using after = await TestRepository.open(folder, { key: testKey });
    const { points } = after.repository;
    for (const id of points.ids()) expect((await after.read(id)).equals(imageOf(id === first ? 1 : 100))).toBe(true);
    expect(points.has(first)).toBe(true);
    expect(await findings(after.repository)).toEqual([]);
    await after.repository.keys?.rotate(new Date());
    const third = await after.backup(sizeBytes, contentOf(200));
    expect((await after.read(third)).equals(imageOf(200))).toBe(true);
    fs.rmSync(path.join(folder, 'cache'), { recursive: true });
  }
  await using last = await TestRepository.open(whole.folder, { key: testKey });
  expect((await last.read(second)).equals(imageOf(100))).toBe(true);
  await expect(TestRepository.open(whole.folder, { key: keyOf('d') })).rejects.toMatchObject({ code: 'REPOSITORY_KEY_WRONG' });
}, 600_000);
