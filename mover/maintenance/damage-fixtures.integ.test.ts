/** Damaged repositories that were made once: each has the findings that its damage must have, and what it does not concern can be restored. */
import { layOutFixture } from '../testing/damage/fixtures';
import { namedDamages } from '../testing/damage/damages';
import { sampleBlockBytes, sampleContent, type SamplePoint } from '../testing/damage/sample-repository';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository, testKey } from '../testing/test-repository';
import { Verifier } from './verifier';

test.each(namedDamages.map((damage) => [damage.name, damage] as const))('%s', async (name, { isEncrypted, expected, restorable }) => {
  using scratch = temporaryFolder();
  const sample = await layOutFixture(name, scratch.folder);
  const opening = TestRepository.open(scratch.folder, { ...(isEncrypted && { key: testKey }) });
  if ('refusedWith' in expected) {
    await expect(opening).rejects.toMatchObject({ code: expected.refusedWith });
    return;
  }
  await using repository = await opening;
  const verifier = new Verifier(repository.repository, new AbortController().signal);
  await verifier.run(undefined);
  const nameOf = (pointId: string) => (Object.keys(sample.points) as SamplePoint[]).find((point) => sample.points[point] === pointId);
  const found = new Set(verifier.findings.map(({ code, pointId }) => JSON.stringify([code, nameOf(pointId) ?? null])));
  expect([...found].sort()).toEqual(expected.map(([code, point]) => JSON.stringify([code, point ?? null])).sort());
  for (const point of Object.keys(sample.points) as SamplePoint[]) {
    const reading = repository.read(sample.points[point]);
    if (!restorable.includes(point)) {
      await expect(reading).rejects.toMatchObject({ code: expect.stringMatching(/^[A-Z_]+$/) as string });
      continue;
    }
    const image = await reading;
    for (const [block, raw] of sampleContent(point))
      expect(image.subarray(block * sampleBlockBytes, (block + 1) * sampleBlockBytes).equals(raw)).toBe(true);
  }
});
