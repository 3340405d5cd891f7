import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository } from '../testing/test-repository';

const block = 65_536;

/** Device errors that can be switched on. */
function faults() {
  const state = { code: undefined as string | undefined, step: 'write' };
  return {
    state,
    step: (step: string, name: string) => {
      if (state.code !== undefined && step === state.step && name.startsWith('packs/'))
        throw Object.assign(new Error(state.code), { code: state.code });
    },
  };
}

test.each([
  ['ENOSPC', 'write', 'REPOSITORY_FULL'],
  ['ENOSPC', 'open', 'REPOSITORY_FULL'],
  ['EIO', 'sync', 'REPOSITORY_IO'],
  ['EIO', 'rename', 'REPOSITORY_IO'],
])(
  '%s at %s fails the commit of the disk; after it is mended the missing blocks are named and the commit succeeds',
  async (code, step, expected) => {
    using scratch = temporaryFolder();
    const fault = faults();
    let clock = 1_000_000;
    await using test = await TestRepository.open(scratch.folder, { step: fault.step, ticks: () => clock });
    const earlier = await test.backup(4 * block, new Map([[0, sampleBlock(1, block)]]));
    const session = await test.openSession([earlier]);
    const draft = await test.openDisk(session, 'disk', 4 * block, earlier);
    const changes = new Map([
      [1, sampleBlock(2, block)],
      [2, sampleBlock(3, block)],
    ]);
    fault.state.code = code;
    fault.state.step = step;
    for (const [at, raw] of changes) await test.send(draft, at, raw, session);
    await expect(session.commitDisk(draft, 100)).rejects.toMatchObject({ code: expected });
    // While the failure is fresh, blocks are refused with it rather than gathered for the next one.
    await expect(test.send(draft, 1, sampleBlock(2, block), session)).rejects.toMatchObject({ code: expected });
    expect((await test.read(earlier)).subarray(0, block).equals(sampleBlock(1, block))).toBe(true);

    fault.state.code = undefined;
    clock += 60_000;
    expect(await session.commitDisk(draft, 100)).toEqual({ missing: [1, 2] });
    for (const [at, raw] of changes) await test.send(draft, at, raw, session);
    await test.commitDisk(session, draft);
    const pointId = await test.commit(session, [{ diskId: 'disk', sizeBytes: 4 * block }]);
    const image = await test.read(pointId);
    for (const [at, raw] of changes) expect(image.subarray(at * block, (at + 1) * block).equals(raw)).toBe(true);
  },
);

test('a clock that is set back does not make a failure of before last', async () => {
  using scratch = temporaryFolder();
  const fault = faults();
  await using test = await TestRepository.open(scratch.folder, { step: fault.step });
  const session = await test.openSession();
  const draft = await test.openDisk(session, 'disk', 4 * block);
  await test.send(draft, 0, sampleBlock(1, block), session);
  fault.state.code = 'EIO';
  await expect(session.commitDisk(draft, 100)).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
  fault.state.code = undefined;
  const [day, uptime] = [Date.now(), performance.now()];
  const clocks = [
    jest.spyOn(Date, 'now').mockImplementation(() => day - 3_600_000),
    jest.spyOn(performance, 'now').mockImplementation(() => uptime + 5_000),
  ];
  try {
    await test.send(draft, 0, sampleBlock(1, block), session);
    await test.commitDisk(session, draft);
  } finally {
    for (const clock of clocks) clock.mockRestore();
  }
});

test('a manifest that cannot be written leaves no point, and the same commit succeeds later', async () => {
  using scratch = temporaryFolder();
  let broken = false;
  await using test = await TestRepository.open(scratch.folder, {
    step: (step, name) => {
      if (broken && step === 'rename' && name.startsWith('points/')) throw Object.assign(new Error('EIO'), { code: 'EIO' });
    },
  });
  const session = await test.openSession();
  const pointId = '44444444-4444-4444-8444-444444444444';
  broken = true;
  await expect(test.commit(session, [], pointId)).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
  expect(test.repository.points.has(pointId)).toBe(false);
  broken = false;
  await test.commit(session, [], pointId);
  expect(test.repository.points.has(pointId)).toBe(true);
});
