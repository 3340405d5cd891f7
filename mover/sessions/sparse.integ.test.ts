import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository } from '../testing/test-repository';

const mebibyte = 1024 * 1024;
const gibibyte = 1024 * mebibyte;

test('metadata follows what changed: 40 GiB and 8 TiB disks with a few blocks', async () => {
  using scratch = temporaryFolder();
  await using test = await TestRepository.open(scratch.folder, { blockSizeBytes: mebibyte });
  for (const [size, levels] of [
    [40 * gibibyte, 2],
    [8192 * gibibyte, 3],
  ] as const) {
    const session = await test.openSession();
    const draft = await test.openDisk(session, 'disk', size);
    for (let i = 0; i < 5; i++) await test.send(draft, i * 7000, sampleBlock(size / gibibyte + i, mebibyte), session);
    await test.commitDisk(session, draft);
    const first = await test.commit(session, [{ diskId: 'disk', sizeBytes: size }]);

    const next = await test.openSession([first]);
    const changed = await test.openDisk(next, 'disk', size, first);
    // Ten blocks of one neighbourhood, and a zeroed range of a hundred thousand that was zero before.
    for (let i = 0; i < 10; i++) await test.send(changed, 20_000 + i, sampleBlock(size / gibibyte + 100 + i, mebibyte), next);
    changed.zero(30_000, Math.min(100_000, changed.blocks - 30_000));
    const packsBefore = test.repository.index.packs.totalEntries;
    const result = await next.commitDisk(changed, 10);
    if ('missing' in result) throw new Error('missing');
    expect(test.repository.index.packs.totalEntries - packsBefore).toBe(10 + levels);
    const second = await test.commit(next, [{ diskId: 'disk', sizeBytes: size }]);
    const { disk } = await test.repository.points.readDisk(second, 'disk');
    const firstBlocks = [0, 7000, 14_000, 21_000, 28_000];
    expect(disk.allocatedBlocks).toBe(firstBlocks.length + 10);
    const tree = test.repository.tree(disk);
    const found: number[] = [];
    for (let block = await tree.nextAllocated(0); block < tree.blocks; block = await tree.nextAllocated(block + 1)) found.push(block);
    expect(found).toEqual([...firstBlocks, ...Array.from({ length: 10 }, (_, i) => 20_000 + i)].sort((a, b) => a - b));
  }
});
