import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { BlockKind, storeForm } from '../format/block';
import { rawLengthOf } from '../format/index-page';
import { Verifier } from '../maintenance/verifier';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { testKey, TestRepository, type TestRepositoryOptions } from '../testing/test-repository';
import type { DiskDraft } from './disk-draft';
import type { Session } from './session';

const blockSize = 65_536;
/** Around the borders of pages and levels. */
const sizes = [0, 1, blockSize, 256 * blockSize, 257 * blockSize - 100, 300 * blockSize, 600 * blockSize + 512];

/** Block to seed of its content; absent: zero. */
type Content = ReadonlyMap<number, number>;
interface Point {
  readonly sizeBytes: number;
  readonly content: Content;
}

type Operation =
  | { kind: 'open'; size: number; base: number }
  | { kind: 'write'; session: number; block: number; seed: number; put: boolean }
  | { kind: 'zero'; session: number; from: number; count: number }
  | { kind: 'commit'; session: number }
  | { kind: 'abort'; session: number }
  | { kind: 'restart'; clean: boolean }
  | { kind: 'rotate' };

const session = fc.nat(3);
const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('open' as const), size: fc.nat(sizes.length - 1), base: fc.nat(9) }) },
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      session,
      block: fc.oneof(fc.nat(600), fc.constantFrom(0, 255, 256, 257, 299, 511, 512, 600)),
      seed: fc.nat(12),
      put: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('zero' as const), session, from: fc.nat(600), count: fc.nat(600) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('commit' as const), session }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('abort' as const), session }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), clean: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'rotate' as const }) },
);

/** What the test believes of an open session. */
interface Draft {
  readonly session: Session;
  readonly disk: DiskDraft;
  readonly sizeBytes: number;
  readonly content: Map<number, number>;
  readonly owner: object;
}

/** Content of a block on a disk of this size; seed 0 is a block of zeroes. */
function rawBlock(seed: number, block: number, sizeBytes: number): Buffer {
  const length = rawLengthOf(block, sizeBytes, blockSize);
  return seed === 0 ? Buffer.alloc(length) : sampleBlock(seed, blockSize).subarray(0, length);
}

class Model {
  readonly points = new Map<string, Point>();
  private drafts: Draft[] = [];

  constructor(
    private readonly folder: string,
    private test: TestRepository,
    private readonly options: TestRepositoryOptions,
  ) {}

  async apply(op: Operation): Promise<void> {
    if (op.kind === 'restart') return this.restart(op.clean);
    if (op.kind === 'rotate') return this.test.repository.keys?.rotate(new Date());
    if (op.kind === 'open') return this.open(op.size, op.base);
    const draft = this.drafts[op.session % Math.max(1, this.drafts.length)];
    if (!draft) return;
    if (op.kind === 'write') await this.write(draft, op);
    else if (op.kind === 'zero') this.zero(draft, op.from, op.count);
    else if (op.kind === 'abort') await this.abort(draft);
    else await this.commit(draft);
  }

  async check(): Promise<void> {
    expect(new Set(this.test.repository.points.ids())).toEqual(new Set(this.points.keys()));
    for (const [pointId, { sizeBytes, content }] of this.points) {
      const { disk } = await this.test.repository.points.readDisk(pointId, 'disk');
      const tree = this.test.repository.tree(disk);
      expect(disk.sizeBytes).toBe(sizeBytes);
      expect(disk.allocatedBlocks).toBe(content.size);
      const found: number[] = [];
      for (let block = await tree.nextAllocated(0); block < tree.blocks; block = await tree.nextAllocated(block + 1)) found.push(block);
      expect(found).toEqual([...content.keys()].sort((a, b) => a - b));
      for (const [block, seed] of content)
        expect((await tree.blockDigest(block)).equals(this.test.digestOf(this.padded(seed, block, sizeBytes)))).toBe(true);
    }
    const verifier = new Verifier(this.test.repository, new AbortController().signal);
    await verifier.run(undefined);
    expect(verifier.findings).toEqual([]);
  }

  async close(): Promise<void> {
    await this.test.close();
  }

  private async open(size: number, base: number): Promise<void> {
    if (this.drafts.length >= 4) return;
    const candidates = [...this.points].filter(([, p]) => p.sizeBytes <= (sizes[size] as number));
    const from = candidates[base];
    const sizeBytes = sizes[size] as number;
    const opened = await this.test.openSession(from ? [from[0]] : []);
    const disk = await this.test.openDisk(opened, 'disk', sizeBytes, from?.[0] ?? '');
    const content = new Map(from?.[1].content);
    // A short last block of a disk that has grown gets zeroes behind it; the model notes that as a seed of its own.
    if (from && from[1].sizeBytes < sizeBytes && from[1].sizeBytes % blockSize !== 0) {
      const tail = Math.floor(from[1].sizeBytes / blockSize);
      const seed = content.get(tail);
      if (seed !== undefined && seed < 1000) content.set(tail, 1000 + seed * 1_000_000 + (from[1].sizeBytes % blockSize));
    }
    this.drafts.push({ session: opened, disk, sizeBytes, content, owner: {} });
  }

  private padded(seed: number, block: number, sizeBytes: number): Buffer {
    if (seed < 1000) return rawBlock(seed, block, sizeBytes);
    const short = (seed - 1000) % 1_000_000;
    const raw = Buffer.alloc(rawLengthOf(block, sizeBytes, blockSize));
    sampleBlock(Math.floor((seed - 1000) / 1_000_000), blockSize).copy(raw, 0, 0, short);
    return raw;
  }

  private async write(draft: Draft, op: { block: number; seed: number; put: boolean }): Promise<void> {
    const { disk, sizeBytes, owner } = draft;
    const raw = op.block < disk.blocks ? rawBlock(op.seed, op.block, sizeBytes) : Buffer.alloc(1, 1);
    const digest = this.test.digestOf(raw);
    if (op.block >= disk.blocks) {
      expect(() => disk.offer(op.block, digest, owner)).toThrow(expect.objectContaining({ code: 'BLOCK_OUT_OF_RANGE' }) as Error);
      return;
    }
    const answer = disk.offer(op.block, digest, owner);
    if (op.seed === 0) draft.content.delete(op.block);
    else draft.content.set(op.block, op.seed);
    if (answer !== 'put' || !op.put) return;
    const { codec, payload } = storeForm(raw, 1, 1);
    await this.test.repository.blocks.putBlock({ digest, codec, kind: BlockKind.data, rawLength: raw.length, payload });
  }

  private zero(draft: Draft, from: number, count: number): void {
    if (from + count > draft.disk.blocks) return;
    draft.disk.zero(from, count);
    for (let block = from; block < from + count; block++) draft.content.delete(block);
  }

  private async abort(draft: Draft): Promise<void> {
    await draft.session.abort('test');
    this.leave(draft);
  }

  private async commit(draft: Draft): Promise<void> {
    let result = await draft.session.commitDisk(draft.disk, 10);
    for (let round = 0; 'missing' in result; round++) {
      expect(round).toBeLessThan(100);
      for (const block of result.missing) {
        expect(draft.content.has(block)).toBe(true);
        // Whoever claimed it may never send it: claims of others end here as they do when a lane dies.
        for (const other of this.drafts) this.test.repository.blocks.release(other.owner);
        await this.write(draft, { block, seed: draft.content.get(block) as number, put: true });
      }
      result = await draft.session.commitDisk(draft.disk, 10);
    }
    const pointId = await this.test.commit(draft.session, [{ diskId: 'disk', sizeBytes: draft.sizeBytes }], randomUUID());
    this.points.set(pointId, { sizeBytes: draft.sizeBytes, content: new Map(draft.content) });
    this.leave(draft);
  }

  private leave(draft: Draft): void {
    this.test.repository.blocks.release(draft.owner);
    this.drafts = this.drafts.filter((d) => d !== draft);
  }

  private async restart(clean: boolean): Promise<void> {
    if (clean) await this.test.close();
    else await this.test.vanish();
    this.drafts = [];
    this.test = await TestRepository.open(this.folder, this.options);
    await this.check();
  }
}

test.each([
  ['in the clear', undefined],
  ['encrypted', testKey],
])(
  '%s: whatever sessions do side by side, every point is what was written for it, and nothing else becomes visible',
  async (_name, key) => {
    const options = { packTargetBytes: 300_000, key };
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 5, maxLength: 60 }), async (operations) => {
        using scratch = temporaryFolder();
        const model = new Model(scratch.folder, await TestRepository.open(scratch.folder, options), options);
        try {
          for (const op of operations) await model.apply(op);
          await model.check();
        } finally {
          await model.close();
        }
      }),
      { numRuns: 40, endOnFailure: true },
    );
  },
  600_000,
);
