/**
 * A process that makes two points and dies by SIGKILL right before the n-th thing it would leave on the disk. Started by crash.integ.test.ts:
 * `node crash-child.js FOLDER N`. Prints `first` and `done` when a point was made.
 */
import { sampleBlock } from './test-disk';
import { TestRepository } from './test-repository';

export const firstPoint = '11111111-1111-4111-8111-111111111111';
export const secondPoint = '22222222-2222-4222-8222-222222222222';
const secondSession = '33333333-3333-4333-8333-333333333333';
export const crashBlock = 65_536;
export const crashSize = 300 * crashBlock;

/** What both points hold. */
export function crashContent(second: boolean): Map<number, Buffer> {
  return second ? secondContent : firstContent;
}

function makeContent(second: boolean): Map<number, Buffer> {
  const blocks = new Map<number, Buffer>();
  for (let i = 0; i < 20; i++) blocks.set(i * 15, sampleBlock(i + 1, crashBlock));
  if (second) for (let i = 0; i < 5; i++) blocks.set(i * 60, sampleBlock(i + 100, crashBlock));
  return blocks;
}

const firstContent = makeContent(false);
const secondContent = makeContent(true);

const images = new Map<boolean, Buffer>();

/** The whole disk. */
export function crashImage(second: boolean): Buffer {
  const known = images.get(second);
  if (known) return known;
  const image = Buffer.alloc(crashSize);
  for (const [block, raw] of crashContent(second)) raw.copy(image, block * crashBlock);
  images.set(second, image);
  return image;
}

/** Makes the second point, going on with whatever an earlier try left. */
export async function makeSecondPoint(test: TestRepository): Promise<void> {
  const session = test.sessions.find(secondSession) ?? (await test.openSession([firstPoint], secondSession));
  if (session.state === 'open') {
    const opened = await session.openDisk({
      diskId: 'disk',
      sizeBytes: crashSize,
      basePointId: firstPoint,
      baseDiskId: 'disk',
      contentId: '',
    });
    if (opened !== 'committed') {
      const base = crashContent(false);
      const owner = {};
      for (const [block, raw] of crashContent(true)) if (!base.get(block)?.equals(raw)) await test.send(opened, block, raw, owner);
      await test.commitDisk(session, opened);
    }
  }
  await test.commit(session, [{ diskId: 'disk', sizeBytes: crashSize }], secondPoint);
}

/** Makes both points in `folder`, calling `step` before each thing that is left on the disk. */
export async function makeBothPoints(folder: string, step: () => void, told: (word: string) => void): Promise<void> {
  // A small target, so that packs are sealed in the middle of a disk too.
  const test = await TestRepository.open(folder, { packTargetBytes: 200_000, step });
  await test.backup(crashSize, crashContent(false), '', firstPoint);
  told('first');
  await makeSecondPoint(test);
  told('done');
  await test.close();
}

async function run(folder: string, killAt: number): Promise<void> {
  let steps = 0;
  const step = () => {
    if (++steps === killAt) process.kill(process.pid, 'SIGKILL');
  };
  await makeBothPoints(folder, step, (word) => process.stdout.write(`${word} `));
}

if (require.main === module) void run(process.argv[2] as string, Number(process.argv[3]));
