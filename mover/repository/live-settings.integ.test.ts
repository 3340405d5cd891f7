/** Settings that change while movers have the repository open. */
import fs from 'node:fs';
import path from 'node:path';
import { protoRoot } from '../../proto/loader';
import { BlockCodec } from '../format/block';
import { DocumentCipher } from '../format/document-cipher';
import { decodeSettings, encodeSettings, SETTINGS_NAME, type SettingsDocument } from '../format/settings-document';
import { goldenKeys } from '../testing/golden-encrypted';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository, testKey } from '../testing/test-repository';

const blockBytes = 65_536;
const golden = (name: string) => fs.readFileSync(path.join(protoRoot, '..', 'mover', 'format', 'golden', name));
const document: SettingsDocument = {
  codec: 'lz4',
  codecLevel: 3,
  softFreeBytes: 2_000_000,
  hardFreeBytes: 1_000_000,
  capacityBytes: 10 ** 13,
  graceMs: 86_400_000,
  changedAt: '2026-11-21T04:30:43.000Z',
};

test('golden bytes of settings, in the clear and encrypted (read only: nonces are random)', () => {
  expect(encodeSettings(document).equals(golden('settings-1.bin'))).toBe(true);
  expect(decodeSettings(golden('settings-1.bin'))).toEqual(document);
  const cipher = new DocumentCipher(goldenKeys, SETTINGS_NAME);
  expect(decodeSettings(golden('settings-2.bin'), cipher)).toEqual(document);
  expect(() => decodeSettings(golden('settings-1.bin'), cipher)).toThrow(expect.objectContaining({ code: 'OBJECT_DAMAGED' }));
});

describe.each([
  ['in the clear', undefined],
  ['encrypted', testKey],
] as const)('a repository %s', (_, key) => {
  let scratch: ReturnType<typeof temporaryFolder>;
  beforeEach(() => (scratch = temporaryFolder()));
  afterEach(() => scratch[Symbol.dispose]());
  const open = (instanceId: string) =>
    TestRepository.open(scratch.folder, {
      cacheFolder: path.join(scratch.folder, `cache-${instanceId}`),
      lock: { instanceId, leaseDurationMs: 600_000, waitMs: 0 },
      ...(key && { key }),
    });
  /** Text compresses well with every codec. */
  const text = (n: number) => Buffer.alloc(blockBytes, `line ${n} of a file that repeats itself\n`);
  const codecsOf = async (test: TestRepository, pointId: string) => {
    const { disk } = await test.repository.points.readDisk(pointId, 'disk');
    const tree = test.repository.tree(disk);
    const found = new Set<number>();
    for (let block = await tree.nextAllocated(0); block < tree.blocks; block = await tree.nextAllocated(block + 1))
      found.add((await test.repository.blocks.locate(await tree.blockDigest(block))).codec);
    return [...found];
  };

  test('stores new blocks in the codec chosen last; all are restored, and other movers follow', async () => {
    await using one = await open('one');
    await using two = await open('two');
    const images: [string, Buffer][] = [];
    let n = 0;
    for (const [codec, expected] of [
      ['zstd', BlockCodec.zstd],
      ['lz4', BlockCodec.lz4],
      ['none', BlockCodec.none],
      ['lz4', BlockCodec.lz4],
    ] as const) {
      await one.repository.updateSettings({ codec });
      await two.repository.refresh();
      expect(two.repository.codec).toBe(expected);
      for (const mover of [one, two]) {
        const raw = text(++n);
        const point = await mover.backup(2 * blockBytes, new Map([[1, raw]]));
        expect(await codecsOf(mover, point)).toEqual([expected]);
        images.push([point, Buffer.concat([Buffer.alloc(blockBytes), raw])]);
      }
    }
    await one.repository.refresh();
    for (const [point, image] of images) expect((await one.read(point)).equals(image)).toBe(true);
  });

  test('keeps what was set, for the next life too; changes at the same time are both kept', async () => {
    {
      await using one = await open('one');
      await using two = await open('two');
      await Promise.all([
        one.repository.updateSettings({ softFreeBytes: 3_000_000 }),
        two.repository.updateSettings({ hardFreeBytes: 1_000_000 }),
        one.repository.updateSettings({ codec: 'zstd', codecLevel: 7 }),
      ]);
    }
    await using again = await open('one');
    expect(again.repository.settings.all).toMatchObject({
      softFreeBytes: 3_000_000,
      hardFreeBytes: 1_000_000,
      codec: 'zstd',
      codecLevel: 7,
    });
  });

  test('restores and can be set again with settings that are damaged', async () => {
    let point: string;
    const raw = sampleBlock(1, blockBytes);
    {
      await using one = await open('one');
      point = await one.backup(blockBytes, new Map([[0, raw]]));
      await one.repository.updateSettings({ codec: 'lz4' });
    }
    const file = path.join(scratch.folder, 'repository', SETTINGS_NAME);
    const bytes = fs.readFileSync(file);
    bytes[30] = (bytes[30] as number) ^ 1;
    fs.writeFileSync(file, bytes);
    await using again = await open('one');
    expect((await again.read(point)).equals(raw)).toBe(true);
    expect(again.repository.codec).toBe(BlockCodec.zstd);
    await again.repository.updateSettings({ codec: 'none' });
    expect(again.repository.codec).toBe(BlockCodec.none);
  });

  test.each([
    [{ codecLevel: 20 }, 'compression_level'],
    [{ softFreeBytes: 5, hardFreeBytes: 6 }, 'hard_free_bytes'],
    [{ capacityBytes: 5, hardFreeBytes: 5 }, 'hard_free_bytes'],
    [{ capacityBytes: -1 }, 'capacity_bytes'],
    [{ graceMs: -1 }, 'grace'],
  ])('refuses %j', async (change, field) => {
    await using one = await open('one');
    await expect(one.repository.updateSettings(change)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID', meta: { field } });
  });
});
