/** A restore that was sent a damaged block asks for it once more, checked: the bad copy goes into quarantine, and a good one is sent when there is one. */
import fs from 'node:fs';
import path from 'node:path';
import { verifiedRawForm } from '../format/block';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder, TestMover } from '../testing/test-mover';
import { LaneError } from '../testing/test-lane';

const blockBytes = 1024 * 1024;

test('a checked read', async () => {
  using scratch = temporaryFolder();
  await using mover = await TestMover.start(scratch.folder);
  const repositoryId = await mover.createRepository(blockBytes);
  const blocks = new Map([1, 2].map((n) => [n, sampleBlock(n, blockBytes)] as const));
  const pointId = await mover.backup(repositoryId, 4 * blockBytes, blocks);
  const packs = path.join(scratch.folder, 'repository', 'packs');
  const [pack] = (fs.readdirSync(packs, { recursive: true }) as string[]).filter((name) => name.endsWith('.pack')) as [string];
  const bytes = fs.readFileSync(path.join(packs, pack));
  bytes[5000] = (bytes[5000] as number) ^ 1;
  fs.writeFileSync(path.join(packs, pack), bytes);

  const restore = async (checked: boolean) => {
    const sessionId = await mover.openSession(repositoryId, 'RESTORE', [pointId]);
    const lane = await mover.lane(sessionId, repositoryId, ['read'], [pointId]);
    try {
      const { handle } = await lane.openImage(pointId, 'disk');
      const { blocks: sent } = await lane.read(handle, 0, 4, checked);
      const { digestKey } = lane.welcome;
      return sent.map(({ header, payload }) => verifiedRawForm(digestKey, payload, header.codec, header.rawLength, header.digest));
    } finally {
      lane.close();
      await mover.sessions.call('AbortSession', { sessionId }, { deadlineMs: 60_000 });
    }
  };
  const quarantined = async () =>
    (await mover.repositories.call('GetRepository', { repositoryId }, { deadlineMs: 60_000 })).repository?.quarantinedBlockCount;
  // The worker finds it out by the digest.
  await expect(restore(false)).rejects.toMatchObject({ code: 'BLOCK_CORRUPT' });
  expect(await quarantined()).toBe('0');
  // There is no other copy: the mover says so.
  const refused = await restore(true).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(LaneError);
  expect(refused).toMatchObject({ code: 'BLOCK_CORRUPT' });
  expect(await quarantined()).toBe('1');
  // The next backup that carries the block stores it again.
  await mover.backup(repositoryId, 4 * blockBytes, blocks);
  // Not by toEqual: it takes so long for a MiB that the mover in this process would lose its lease.
  for (const checked of [true, false]) {
    const restored = await restore(checked);
    expect(restored.length).toBe(blocks.size);
    expect(Buffer.concat(restored).equals(Buffer.concat([...blocks.values()]))).toBe(true);
  }
  expect(await quarantined()).toBe('0');
});
