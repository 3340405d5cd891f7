/** Watermarks against a real file system that gets full. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { temporaryFolder } from '../testing/test-mover';
import { randomFrom } from '../testing/test-disk';
import { TestRepository } from '../testing/test-repository';
import { spaceState } from './space';

const blockBytes = 65_536;
const mib = 1024 ** 2;
const noise = (seed: number): Buffer => {
  const random = randomFrom(seed);
  const block = Buffer.alloc(blockBytes);
  for (let at = 0; at < blockBytes; at += 4) block.writeUInt32LE(Math.floor(random() * 2 ** 32), at);
  return block;
};

describe('free space', () => {
  const source = (
    free: number | undefined,
    total: number | undefined,
    settings: Partial<Record<'soft' | 'hard' | 'capacity', number>> = {},
    stored = 0,
  ) =>
    spaceState({
      store: { freeBytes: async () => free, totalBytes: async () => total },
      settings: { all: { softFreeBytes: settings.soft ?? 0, hardFreeBytes: settings.hard ?? 0, capacityBytes: settings.capacity ?? 0 } },
      index: { packs: { totalBytes: stored } },
    });
  const gib = 1024 ** 3;

  test.each([
    ['10 % and 2 % of a small device', device(200, 1000), 'enough', 100, 20],
    ['low', device(99, 1000), 'low', 100, 20],
    ['full', device(19, 1000), 'full', 100, 20],
    ['100 and 20 GiB of a large one', device(99 * gib, 100_000 * gib), 'low', 100 * gib, 20 * gib],
    ['what was set', device(50, 1000, { soft: 60, hard: 40 }), 'low', 60, 40],
    ['a soft mark is never below the hard one', device(150, 1000, { hard: 200 }), 'full', 200, 200],
  ])('%s', async (_, [free, total, settings], level, soft, hard) => {
    expect(await source(free, total, settings)).toEqual({ level, freeBytes: free, softFreeBytes: soft, hardFreeBytes: hard });
  });

  test('of a bucket is told when its capacity was set', async () => {
    expect(await source(undefined, undefined)).toMatchObject({ level: 'enough', freeBytes: undefined });
    expect(await source(undefined, undefined, { capacity: 1000 }, 950)).toEqual({
      level: 'low',
      freeBytes: 50,
      softFreeBytes: 100,
      hardFreeBytes: 20,
    });
    expect(await source(undefined, undefined, { capacity: 1000 }, 2000)).toMatchObject({ level: 'full', freeBytes: 0 });
    expect(await source(500, 5000, { capacity: 1000 }, 900)).toMatchObject({ freeBytes: 100 });
  });
});

function device(free: number, total: number, settings: Partial<Record<'soft' | 'hard' | 'capacity', number>> = {}) {
  return [free, total, settings] as const;
}

describe('a repository on a small device', () => {
  let scratch: ReturnType<typeof temporaryFolder>;
  let mounted: string;
  beforeEach(() => {
    scratch = temporaryFolder();
    mounted = path.join(scratch.folder, 'repository');
    fs.mkdirSync(mounted);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', mounted]);
  });
  afterEach(() => {
    execFileSync('umount', ['-l', mounted]);
    scratch[Symbol.dispose]();
  });
  const open = () => TestRepository.open(scratch.folder, { packTargetBytes: 200_000 });

  test('below the hard mark no backup begins and the one that runs ends well; restores go on', async () => {
    await using test = await open();
    await test.repository.updateSettings({ softFreeBytes: 12 * mib, hardFreeBytes: 10 * mib });
    const earlier = await test.backup(blockBytes, new Map([[0, noise(1)]]));
    const running = await test.openSession();
    const draft = await test.openDisk(running, 'disk', 100 * blockBytes);
    expect((await spaceState(test.repository)).level).toBe('enough');
    for (let block = 0; block < 100; block++) await test.send(draft, block, noise(100 + block), {});
    await test.repository.blocks.flush();
    const { level, freeBytes } = await spaceState(test.repository);
    expect(level).toBe('full');
    await expect(test.openSession()).rejects.toMatchObject({
      code: 'REPOSITORY_FULL',
      meta: { freeBytes, neededBytes: 10 * mib },
      message: expect.stringMatching(/\d MiB free, 10 MiB needed/) as unknown,
    });
    await test.commitDisk(running, draft);
    const point = await test.commit(running, [{ diskId: 'disk', sizeBytes: 100 * blockBytes }]);
    expect((await test.read(point)).subarray(99 * blockBytes).equals(noise(199))).toBe(true);
    expect((await test.read(earlier)).equals(noise(1))).toBe(true);
    await test.repository.updateSettings({ hardFreeBytes: 1 * mib });
    await test.backup(blockBytes, new Map([[0, noise(2)]]));
  });

  test('a device that runs full in the middle fails the backup alone; with room again everything goes on', async () => {
    let earlier: string;
    {
      await using test = await open();
      await test.repository.updateSettings({ hardFreeBytes: 1 });
      earlier = await test.backup(blockBytes, new Map([[0, noise(1)]]));
      const session = await test.openSession();
      const draft = await test.openDisk(session, 'disk', 400 * blockBytes);
      await expect(
        (async () => {
          for (let block = 0; block < 400; block++) await test.send(draft, block, noise(1000 + block), {});
          await test.commitDisk(session, draft);
        })(),
      ).rejects.toMatchObject({ code: 'REPOSITORY_FULL' });
      expect((await test.read(earlier)).equals(noise(1))).toBe(true);
      // The device stays as full as it can be: what was written for nothing is not given back by the failure itself.
      execFileSync('mount', ['-o', 'remount,size=64m', mounted]);
    }
    await using again = await open();
    const blocks = new Map([[3, noise(3)]]);
    const point = await again.backup(8 * blockBytes, blocks);
    expect((await again.read(point)).subarray(3 * blockBytes, 4 * blockBytes).equals(noise(3))).toBe(true);
    expect((await again.read(earlier)).equals(noise(1))).toBe(true);
  });
});
