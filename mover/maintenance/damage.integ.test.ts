import fs from 'node:fs';
import path from 'node:path';
import { sealDocument } from '../format/sealed-document';
import { packName } from '../repository/blocks/pack-table';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository } from '../testing/test-repository';
import type { Finding } from './verify-findings';
import { Verifier } from './verifier';

const block = 65_536;
const size = 600 * block;

/** Three points: A and B share the blocks of A's first pack, C stands alone. */
interface Fixture {
  readonly folder: string;
  readonly repositoryFolder: string;
  readonly points: { a: string; b: string; c: string };
  readonly images: Record<'a' | 'b' | 'c', Buffer>;
  readonly packOf: Record<'a' | 'b' | 'c', string>;
}

async function make(folder: string): Promise<Fixture> {
  await using test = await TestRepository.open(folder);
  const packs = new Set<string>();
  const newPack = () => {
    const { index } = test.repository;
    for (let number = 0; number < index.packs.count; number++) {
      const id = index.packs.idOf(number);
      if (!packs.has(id)) {
        packs.add(id);
        return id;
      }
    }
    throw new Error('no new pack');
  };
  const content = (seeds: [number, number][]) => new Map(seeds.map(([at, seed]) => [at, sampleBlock(seed, block)] as const));
  const first = content([
    [0, 1],
    [299, 2],
    [599, 3],
  ]);
  const a = await test.backup(size, first);
  const packA = newPack();
  const changes = content([[10, 4]]);
  const b = await test.backup(size, changes, a);
  const packB = newPack();
  const alone = content([
    [5, 50],
    [6, 51],
  ]);
  const c = await test.backup(size, alone);
  const packC = newPack();
  const imageOf = (...maps: Map<number, Buffer>[]) => {
    const image = Buffer.alloc(size);
    for (const map of maps) for (const [at, raw] of map) raw.copy(image, at * block);
    return image;
  };
  return {
    folder,
    repositoryFolder: path.join(folder, 'repository'),
    points: { a, b, c },
    images: { a: imageOf(first), b: imageOf(first, changes), c: imageOf(alone) },
    packOf: { a: packA, b: packB, c: packC },
  };
}

function packFile(fixture: Fixture, point: 'a' | 'b' | 'c'): string {
  return path.join(fixture.repositoryFolder, packName(fixture.packOf[point]));
}

function flip(file: string, offset: number): void {
  const bytes = fs.readFileSync(file);
  bytes[offset] = (bytes[offset] as number) ^ 0x10;
  fs.writeFileSync(file, bytes);
}

async function verify(test: TestRepository, pointId?: string): Promise<readonly Finding[]> {
  const verifier = new Verifier(test.repository, new AbortController().signal);
  await verifier.run(pointId);
  return verifier.findings;
}

describe('a damaged repository', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let fixture: Fixture;
  beforeEach(async () => {
    scratch = temporaryFolder();
    fixture = await make(scratch.folder);
  });
  afterEach(() => scratch[Symbol.dispose]());

  test('that is not damaged has no findings', async () => {
    await using test = await TestRepository.open(fixture.folder);
    expect(await verify(test)).toEqual([]);
    for (const name of ['a', 'b', 'c'] as const) expect((await test.read(fixture.points[name])).equals(fixture.images[name])).toBe(true);
  });

  test('a flipped bit in a block hurts every point that has the block, and no other', async () => {
    // The first block of the pack begins behind its header of 64 bytes; the middle of its stored form.
    flip(packFile(fixture, 'a'), 64 + 5000);
    await using test = await TestRepository.open(fixture.folder);
    const findings = await verify(test);
    expect(findings.map((f) => [f.code, f.pointId, f.offsetBytes, f.objectName])).toEqual([
      ['BLOCK_CORRUPT', fixture.points.a, 0, packName(fixture.packOf.a)],
      ['BLOCK_CORRUPT', fixture.points.b, 0, packName(fixture.packOf.a)],
    ]);
    await expect(test.read(fixture.points.a)).rejects.toMatchObject({ code: 'BLOCK_CORRUPT' });
    expect((await test.read(fixture.points.c)).equals(fixture.images.c)).toBe(true);
    expect(await verify(test, fixture.points.c)).toEqual([]);
  });

  test('a truncated pack is found, with and without the index cache', async () => {
    const file = packFile(fixture, 'a');
    fs.truncateSync(file, 64 + 20_000);
    {
      await using test = await TestRepository.open(fixture.folder);
      const codes = new Set((await verify(test)).map((f) => f.code));
      expect(codes).toEqual(new Set(['BLOCK_MISSING', 'INDEX_PAGE_DAMAGED', 'PACK_DAMAGED']));
      expect((await test.read(fixture.points.c)).equals(fixture.images.c)).toBe(true);
    }
    fs.rmSync(path.join(fixture.folder, 'cache'), { recursive: true });
    await using test = await TestRepository.open(fixture.folder);
    expect([...test.repository.index.damagedPacks.keys()]).toEqual([fixture.packOf.a]);
    const findings = await verify(test);
    expect(findings.filter((f) => f.code === 'PACK_DAMAGED').map((f) => f.objectName)).toEqual([packName(fixture.packOf.a)]);
    expect(findings.some((f) => f.pointId === fixture.points.c)).toBe(false);
    // What the damaged pack held is stored anew by the next backup.
    const again = await test.backup(size, new Map([[0, sampleBlock(1, block)]]));
    expect((await test.read(again)).subarray(0, block).equals(sampleBlock(1, block))).toBe(true);
  });

  test('a missing pack hurts its points, and what it held is stored anew', async () => {
    fs.rmSync(packFile(fixture, 'b'));
    await using test = await TestRepository.open(fixture.folder);
    const findings = await verify(test);
    expect(findings.map((f) => [f.code, f.pointId])).toEqual([['INDEX_PAGE_DAMAGED', fixture.points.b]]);
    expect((await test.read(fixture.points.a)).equals(fixture.images.a)).toBe(true);
    await expect(test.read(fixture.points.b)).rejects.toMatchObject({ code: 'INDEX_PAGE_DAMAGED' });
    const again = await test.backup(size, new Map([[10, sampleBlock(4, block)]]), fixture.points.a);
    expect((await test.read(again)).equals(fixture.images.b)).toBe(true);
    // The same blocks make the same pages: the old point is whole again.
    expect((await test.read(fixture.points.b)).equals(fixture.images.b)).toBe(true);
  });

  test.each([
    ['truncated', (file: string) => fs.truncateSync(file, 100)],
    ['empty', (file: string) => fs.truncateSync(file, 0)],
    ['flipped', (file: string) => flip(file, 60)],
    ['foreign', (file: string) => fs.writeFileSync(file, 'not a manifest')],
  ])('a %s manifest is listed as damaged, and the other points stay whole', async (_what, damage) => {
    const names = fs.readdirSync(path.join(fixture.repositoryFolder, 'points'));
    damage(path.join(fixture.repositoryFolder, 'points', names.find((n) => n.includes(fixture.points.b)) as string));
    await using test = await TestRepository.open(fixture.folder);
    const listed = [];
    for await (const entry of test.repository.points.list())
      listed.push('damaged' in entry ? `damaged ${entry.damaged.pointId}` : entry.point.pointId);
    expect(listed).toEqual([fixture.points.a, `damaged ${fixture.points.b}`, fixture.points.c]);
    const findings = await verify(test);
    expect(findings.map((f) => [f.code, f.pointId])).toEqual([['MANIFEST_DAMAGED', fixture.points.b]]);
    await expect(test.repository.points.readWhole(fixture.points.b)).rejects.toMatchObject({ code: 'MANIFEST_DAMAGED' });
    expect((await test.read(fixture.points.a)).equals(fixture.images.a)).toBe(true);
  });

  test.each([
    ['preamble', 40],
    ['pack table', 64],
    ['last entry', -10],
  ])('a damaged index cache (%s) is rebuilt from the packs', async (_what, offset) => {
    const cache = path.join(fixture.folder, 'cache', fs.readdirSync(path.join(fixture.folder, 'cache'))[0] as string);
    for (const name of fs.readdirSync(cache)) {
      const file = path.join(cache, name);
      flip(file, offset < 0 ? fs.statSync(file).size + offset : offset);
    }
    await using test = await TestRepository.open(fixture.folder);
    for (const name of ['a', 'b', 'c'] as const) expect((await test.read(fixture.points[name])).equals(fixture.images[name])).toBe(true);
    expect(await verify(test)).toEqual([]);
  });

  test('a damaged header is told as such; a newer format is not guessed at', async () => {
    const file = path.join(fixture.repositoryFolder, 'tidemark-repository');
    const header = fs.readFileSync(file);
    for (const at of [9, 100]) {
      fs.writeFileSync(file, header);
      flip(file, at);
      await expect(TestRepository.open(fixture.folder)).rejects.toMatchObject({ code: 'REPOSITORY_HEADER_DAMAGED' });
    }
    fs.writeFileSync(file, sealDocument({ magic: 'TDMKREPO', version: 3 }, [{ codec: 'none', content: Buffer.from('{}') }]));
    await expect(TestRepository.open(fixture.folder)).rejects.toMatchObject({ code: 'REPOSITORY_FORMAT_UNKNOWN' });
  });

  test('damaged session records are told, and no point is hurt', async () => {
    const folder = path.join(fixture.repositoryFolder, 'sessions');
    for (const name of fs.readdirSync(folder)) fs.truncateSync(path.join(folder, name), 20);
    await using test = await TestRepository.open(fixture.folder);
    expect((await verify(test)).map((f) => [f.code, f.pointId])).toEqual([
      ['OBJECT_DAMAGED', ''],
      ['OBJECT_DAMAGED', ''],
      ['OBJECT_DAMAGED', ''],
    ]);
    for (const name of ['a', 'b', 'c'] as const) expect((await test.read(fixture.points[name])).equals(fixture.images[name])).toBe(true);
  });
});
